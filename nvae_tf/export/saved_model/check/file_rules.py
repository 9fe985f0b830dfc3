"""Rules about the files of a SavedModel; for their form see graph_rules.py."""

import pathlib
import re

import tensorflow as tf

from nvae_tf.export.saved_model.check.contents import NotChecked, is_version
from nvae_tf.export.saved_model.check.graph_rules import dtype_name, shape_of
from nvae_tf.files import file_sum

_TEMPORARY = re.compile(r"(^|[._-])tmp|(^|[._-])temp(state)?\d*([._-]|$)|~$|^\.")


def variables(model):
    """The server does not load a version whose variables are missing or damaged."""
    prefix = model.path / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        if any(operation.node.op == "VarHandleOp" for operation in model.operations):
            yield "expected variables/variables.index, because the graph has variables"
        return
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)  # which compares with the tensor's checksum
    except Exception as error:  # The reader raises almost any kind of Python error, depending on TensorFlow's code.
        yield f"variables/: {error}"


def assets(model):
    """A file outside the version folder is not there on another machine."""
    for asset in model.meta_graph.asset_file_def:
        name = pathlib.PurePath(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            yield f"asset {asset.filename}: expected a path inside assets/"
        elif not (model.path / "assets" / name).is_file():
            yield f"asset {asset.filename}: expected this file in assets/"


def version_name(model):
    """The server skips folders with other names."""
    if model.published and not is_version(model.path.name):
        yield f"expected a folder named by a number: 1, 2, .... Received: {model.path.name}"


def leftovers(model):
    """What an interrupted write left is published with the version."""
    for path in sorted(model.path.rglob("*")):
        if _TEMPORARY.search(path.name):
            yield str(path.relative_to(model.path))


def _card(model):
    if model.card is None:
        raise NotChecked("no readable model.json")
    return model.card


def model_card(model):
    """Clients read the signatures in the card."""
    if model.card is None and (model.path / "assets.extra" / "model.json").exists():
        yield "model.json: expected a JSON object"
        return
    try:
        described = {name: _described(signature) for name, signature in _card(model)["signatures"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        yield f"model.json: expected dtype and shape of each input and output in signatures. Received: {error!r}"
        return
    if model.card_batch_sizes is None:
        received = model.card.get("allowed_batch_sizes")
        yield f"model.json: expected positive whole numbers in allowed_batch_sizes. Received: {received!r}"
    for name in sorted(set(described) | set(model.signatures)):
        actual = _actual(model.signatures[name]) if name in model.signatures else None
        if described.get(name) != actual:
            yield f"model.json, signature {name}: expected {actual}, as in the graph. Received: {described.get(name)}"


def _described(signature):
    """{"inputs name": "dtype shape"} of a signature in the card, where an unknown dimension is null or -1."""
    return {
        f"{kind} {name}": f"{tensor['dtype']} {[-1 if size is None else size for size in tensor['shape']]}"
        for kind in ("inputs", "outputs")
        for name, tensor in signature[kind].items()
    }


def _actual(signature):
    return {
        f"{kind} {name}": f"{dtype_name(info)} {list(shape_of(info) or ())}"
        for kind in ("inputs", "outputs")
        for name, info in getattr(signature, kind).items()
    }


def checksums(model):
    """A file that was changed, or cut short by a copy, is not the one that was checked."""
    expected = _card(model).get("checksums")
    if not isinstance(expected, dict):
        yield "model.json: expected the field checksums, {path: sha256}"
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
