"""Rules about the folder and the files of a SavedModel; see graph_rules.py for their form."""

import tensorflow as tf

from nvae_tf.export.saved_model.assets_extra import CARD
from nvae_tf.export.saved_model.check.contents import NotChecked, is_version
from nvae_tf.files import file_sum


def version_name(model):
    """The server skips folders with other names."""
    if model.published and not is_version(model.path.name):
        yield f"expected a folder named by a number: 1, 2, .... Received: {model.path.name}"


def card_signatures(model):
    """The check of a server takes names, dtypes and shapes from the card."""
    if not model.card:
        raise NotChecked(f"no {CARD} that can be read")
    actual, described = {}, {}
    for text, _, info in model.tensors:
        shape = [None if dim.size == -1 else dim.size for dim in info.tensor_shape.dim]
        actual[text] = {"dtype": tf.as_dtype(info.dtype).name, "shape": shape}
    try:
        for name, signature in model.card["signatures"].items():
            for kind in ("input", "output"):
                described |= {f"{kind} {tensor} of {name}": spec for tensor, spec in signature[f"{kind}s"].items()}
    except (LookupError, TypeError, AttributeError) as error:
        yield f"{CARD}: expected inputs and outputs of each signature in signatures. Received: {error!r}"
        return
    for text in sorted({*described, *actual}):
        if (received := described.get(text)) != actual.get(text):
            yield f"{CARD}, {text}: expected {actual.get(text)}, as in the graph. Received: {received}"


def checksums(model):
    """A file that was changed, or cut short by a copy, is not the one that was checked."""
    if not (model.path / "assets.extra" / CARD).is_file():
        raise NotChecked(f"no {CARD}")
    expected = model.card.get("checksums")
    if not isinstance(expected, dict):
        yield f"{CARD}: expected a JSON object with the field checksums, {{path: sha256}}"
        return
    written = [path.relative_to(model.path).as_posix() for path in model.path.glob("variables/*")]
    for name in sorted({*expected, "saved_model.pb", *written}):
        path = model.path / name
        if name not in expected:
            yield f"{name} is not in checksums"
        elif not path.is_file():
            yield f"{name} is missing"
        elif file_sum(path) != expected[name]:
            yield f"{name} is not the file that the card was written for"
