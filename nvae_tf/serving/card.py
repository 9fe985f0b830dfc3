"""The model card of an export, with the golden answers stored beside it."""

import json
import pathlib
from typing import NamedTuple

from nvae_tf.golden_answers import check_sum, read_npz
from nvae_tf.serving.protocol import Signature, TensorSpec

_NAME = "model.json"


class Card(NamedTuple):
    """What a client can compare a served model with.

    A pixel may differ by `max_levels` of 255: by one because of rounding, or by any number if pixels are drawn.
    """

    signatures: dict  # {name: Signature}
    answers: dict  # the golden ones, {signature name: ({input: array}, {output: array})}
    max_levels: int
    max_rows: int  # the largest batch that the server may run


def read_card(path):
    """`Card` of a model.json and the golden answers that it names; ValueError if they are damaged or do not match."""
    path = pathlib.Path(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        signatures = {
            name: Signature(_specs(signature["inputs"]), _specs(signature["outputs"]))
            for name, signature in card["signatures"].items()
        }
        golden, expected = path.parent / card["golden"]["file"], card["golden"]["sha256"]
        max_levels = 255 if card["pixels"] == "sample" else 1
        max_rows = int(card["allowed_batch_sizes"][-1])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: expected a model card. Received: {error!r}") from error
    check_sum(golden, expected, path.name)
    return Card(signatures, read_npz(golden), max_levels, max_rows)


def find_card(path, version):
    """Path of the model card of a version number; ValueError if the folder has no card of that version.

    `path` is the folder of the versions, one of them, or the card of any of them. A card that is not in a folder
    N/assets.extra does not tell its version, and is taken as it is.
    """
    path = pathlib.Path(path).resolve()
    if (path / "assets.extra").is_dir():
        path = path / "assets.extra" / _NAME
    if path.parent.name == "assets.extra" and path.parent.parent.name.isdecimal():
        path = path.parents[2]
    if not path.is_dir():
        return path
    card = path / str(version) / "assets.extra" / _NAME
    if not card.is_file():
        expected = f"the card of version {version}, which answers, as {card}, or a copy of it and golden.npz elsewhere"
        raise ValueError(f"card: expected {expected}. Received: no such file")
    return card


def _specs(specs):
    return {name: TensorSpec(spec["dtype"], tuple(spec["shape"])) for name, spec in specs.items()}
