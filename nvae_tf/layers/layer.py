"""The base of the model's layers."""

import keras


class Layer(keras.layers.Layer):
    """A layer that computes in the type of its input.

    Keras casts the inputs of a layer to the layer's own type. Here the images and kernels that enter the model decide
    the type of all activations, so that one model trains in mixed precision and is evaluated in float32.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
