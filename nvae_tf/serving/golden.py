"""The model card of an export, and the requests and answers that lie beside it."""

import json
import pathlib
from typing import NamedTuple

from nvae_tf.golden_answers import check_sum, read_npz
from nvae_tf.serving.protocol import Signature, TensorSpec


class Golden(NamedTuple):
    """What an export says of itself.

    Attributes:
        signatures: `{name: Signature}`.
        answers: `{signature name: (inputs, outputs)}`, both `{name: array}`; strings are object arrays of bytes.
        max_levels: by how many of 255 levels a pixel may differ: one, for rounding; any, where pixels are drawn.
        max_rows: the largest batch that the server may run.
    """

    signatures: dict
    answers: dict
    max_levels: int
    max_rows: int


def read_golden(card_path):
    """`Golden` of a model card, model.json, and the file that it names beside it.

    Raises:
        ValueError: damaged files, or an answers file that is not the card's.
        OSError: a file cannot be read.
    """
    card_path = pathlib.Path(card_path)
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        signatures = {
            name: Signature(_specs(signature["inputs"]), _specs(signature["outputs"]))
            for name, signature in card["signatures"].items()
        }
        path, expected = card_path.parent / card["golden"]["file"], card["golden"]["sha256"]
        max_levels = 255 if card["pixels"] == "sample" else 1
        max_rows = int(card["allowed_batch_sizes"][-1])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{card_path}: expected a model card. Received: {error!r}") from error
    check_sum(path, expected, card_path.name)
    return Golden(signatures, read_npz(path), max_levels, max_rows)


def _specs(specs):
    return {name: TensorSpec(spec["dtype"], tuple(spec["shape"])) for name, spec in specs.items()}
