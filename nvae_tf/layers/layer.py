"""The base class of the model's layers, and layers without values."""

import concurrent.futures

import keras


class Layer(keras.layers.Layer):
    """A layer that computes in the type of its input. Its subclasses are registered with Keras.

    Keras casts the inputs of a layer to the type of the layer. Here the images and kernels that enter the model
    determine the type of all activations, so that one model can train in mixed precision and be evaluated in float32.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("nvae_tf")(cls)

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def add_weight(self, *args, **kwargs):
        return super().add_weight(*args, autocast=False, **kwargs)


def without_values(build):
    """Calls `build`, which creates layers or models, so that their variables have shapes but no values.

    This allows the inspection of models that may not fit in memory.
    """

    def run():
        with keras.StatelessScope(initialize_variables=False):
            return build()

    # Keras keeps a list of variables without values for each thread and gives them values at the end of the next
    # scope. In a separate thread, the list disappears with the thread.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(run).result()
