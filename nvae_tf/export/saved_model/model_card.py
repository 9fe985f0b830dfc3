"""What goes with an exported model: the card that describes it, and requests with the answers they must get."""

import datetime

from nvae_tf import hierarchy
from nvae_tf.config import config_to_dict
from nvae_tf.files import file_sum

FORMAT = 1
CARD, GOLDEN = "model.json", "golden.npz"


def model_card(config, specs, origin, **fields):
    """The card as a dict for JSON.

    Args:
        config: `ModelConfig`.
        specs: `{signature: {"inputs": {name: TensorSpec}, "outputs": {name: TensorSpec}}}`.
        origin: `provenance` of the model.
        **fields: the rest: name, image, pixels, temperature, allowed_batch_sizes, folded, parity, golden, checksums.
    """
    groups = [
        {"height": s.height, "width": s.width, "channels": config.latent_channels, "scale": s.index}
        for s in hierarchy.group_scales(config)
    ]
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **origin,
        "model": config_to_dict(config),
        "likelihood": config.likelihood,
        "groups": groups,
        "signatures": {name: {kind: _tensors(specs[name][kind]) for kind in specs[name]} for name in specs},
        **fields,
    }


def _tensors(specs):
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}


def checksums(folder):
    """`{path: SHA-256}` of every file in a folder but the card, paths relative to it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}
