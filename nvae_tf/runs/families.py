"""The model class of each family, imported only when it is needed."""

import nvae_tf

_CLASSES = {"nvae": "NVAE", "iaf_vae": "IAFVAE", "biva": "BIVA", "vqvae2": "VQVAE2"}


def model_class(config):
    """The `ImageModel` of a model's configuration."""
    return getattr(nvae_tf, _CLASSES[config.family])


def make_model(config, **kwargs):
    """The `ImageModel` of a `Config`, untrained; other arguments are passed to its class."""
    stages = {} if config.train.stage == "joint" else {"stage": config.train.stage}
    return model_class(config.model)(config.model, **stages, **kwargs)


def require_folding(config, flag):
    """Raises ValueError, which names a flag or an argument, if the model of a `Config` does not fold.

    Then it has no exports, no paths between latents and no batch norm to readjust.
    """
    family = config.model.family
    if not model_class(config.model).folds:
        raise ValueError(f"{flag}: expected model.family 'nvae', the only one that works here. Received: {family!r}")
