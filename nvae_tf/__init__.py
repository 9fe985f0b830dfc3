"""NVAE, a deep hierarchical variational autoencoder (Vahdat & Kautz, arXiv 2007.03898), in Keras 3 and TensorFlow.

import nvae_tf

model = nvae_tf.load_run("runs/mnist")
pictures = model.likelihood(model.generate(batch_size=16, temperature=0.7)).mean()
"""

import importlib

# TensorFlow takes seconds to import: names are looked up on first use, so that `nvae_tf.config` costs nothing.
_EXPORTS = {
    "NVAE": "nvae_tf.models.nvae",
    "NVAEOutput": "nvae_tf.models.nvae",
    "load_run": "nvae_tf.runs.load",
}

__version__ = "0.1.0"
__all__ = ["NVAE", "NVAEOutput", "__version__", "load_run"]


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
