"""NVAE, a deep hierarchical variational autoencoder (Vahdat & Kautz, arXiv 2007.03898), in Keras 3 and TensorFlow.

import nvae_tf

model = nvae_tf.load_run("runs/mnist")
pictures = model.likelihood(model.generate(batch_size=16, temperature=0.7)).mean()
"""

import importlib
import os
import sys

# On CPUs without AVX-512 TensorFlow leaves oneDNN off, and a training step takes up to twice as long. TensorFlow reads
# this when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Module, and name in it. TensorFlow takes seconds to import: names are looked up on first use, so that `nvae_tf.config`
# costs nothing.
_MODELS = {
    "BIVA": ("nvae_tf.baselines.biva", "BIVA"),
    "IAFVAE": ("nvae_tf.baselines.iaf_vae", "IAFVAE"),
    "NVAE": ("nvae_tf.runs.trainable_nvae", "TrainableNVAE"),
    "VQVAE2": ("nvae_tf.baselines.vqvae2", "VQVAE2"),
}
_EXPORTS = _MODELS | {
    "BIVAConfig": ("nvae_tf.config", "BIVAConfig"),
    "IAFVAEConfig": ("nvae_tf.config", "IAFVAEConfig"),
    "ModelConfig": ("nvae_tf.config", "ModelConfig"),
    "NVAEOutput": ("nvae_tf.models.output", "ModelOutput"),
    "TrainConfig": ("nvae_tf.config", "TrainConfig"),
    "VQVAE2Config": ("nvae_tf.config", "VQVAE2Config"),
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
    for _name in _MODELS:  # `keras.models.load_model` finds only classes that have been imported
        __getattr__(_name)
