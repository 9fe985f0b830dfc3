"""The base of the model's layers, and layers without values."""

import concurrent.futures

import keras


class Layer(keras.layers.Layer):
    """A layer that computes in the type of its input.

    Keras casts the inputs of a layer to the layer's own type. Here the images and kernels that enter the model decide
    the type of all activations, so that one model trains in mixed precision and is evaluated in float32.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)


def without_values(build):
    """Calls `build`, which makes layers or models, with variables that have shapes but no values.

    It serves to inspect models that may not fit into memory.
    """

    def run():
        with keras.StatelessScope(initialize_variables=False):
            return build()

    # Keras keeps a list of variables without values for each thread and gives them values at the end of the next
    # scope. In a thread of its own the list ends with the thread.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(run).result()
