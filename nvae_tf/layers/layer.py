"""The base of the model's layers."""

import keras


class Layer(keras.layers.Layer):
    """A layer that takes tensors as they come.

    Keras casts what a layer is called with to the layer's own type. Here the type of the activations is decided once,
    by the images that enter the model, and every layer computes in the type of its input: one model trains in mixed
    precision and is evaluated in float32.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
