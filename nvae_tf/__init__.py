"""NVAE, a deep hierarchical variational autoencoder (Vahdat & Kautz, arXiv 2007.03898), in Keras 3 and TensorFlow.

import nvae_tf

model = nvae_tf.load_run("runs/mnist")
pictures = model.likelihood(model.generate(batch_size=16, temperature=0.7)).mean()
"""

import importlib
import sys

# Module, and name in it. TensorFlow takes seconds to import: names are looked up on first use, so that `nvae_tf.config`
# costs nothing.
_EXPORTS = {
    "ModelConfig": ("nvae_tf.config", "ModelConfig"),
    "NVAE": ("nvae_tf.runs.trainable_nvae", "TrainableNVAE"),
    "NVAEOutput": ("nvae_tf.models.output", "ModelOutput"),
    "TrainConfig": ("nvae_tf.config", "TrainConfig"),
    "load_run": ("nvae_tf.runs.load", "load_run"),
}

__version__ = "1.0.0"
__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__():
    return __all__


if "keras" in sys.modules:
    __getattr__("NVAE")  # `keras.models.load_model` finds only classes that have been imported
