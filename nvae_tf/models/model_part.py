"""The base class of the model's parts, which are made from a `ModelConfig`."""

from nvae_tf.config import config_to_dict, model_config_from_dict
from nvae_tf.layers.layer import Layer


class ModelPart(Layer):
    """A layer made from a `ModelConfig`, or from a dict of its fields, which is what its Keras configuration holds."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.model_config = model_config_from_dict(config) if isinstance(config, dict) else config

    def get_config(self):
        return super().get_config() | {"config": config_to_dict(self.model_config)}
