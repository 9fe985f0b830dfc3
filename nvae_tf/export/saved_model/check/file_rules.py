"""Rules about the files of a SavedModel. Each is a function from a `SavedModel` to its findings.

What breaks each rule, and why it is one, is in the list of nvae_tf/export/saved_model_lint.py.
"""

import pathlib
import re

import tensorflow as tf

from nvae_tf.export.saved_model.check.contents import is_version
from nvae_tf.export.saved_model.check.graph_rules import dtype_name, shape_of
from nvae_tf.files import file_sum

_TEMPORARY = re.compile(r"(^|[._-])tmp|(^|[._-])temp(state)?\d*([._-]|$)|~$|^\.")


class NotChecked(Exception):
    """A rule that says nothing about this model; the message says why."""


def version_name(model):
    if model.published and not is_version(model.path.name):
        yield f"expected a folder named by a number: 1, 2, .... Received: {model.path.name}"


def leftovers(model):
    for path in sorted(model.path.rglob("*")):
        if _TEMPORARY.search(path.name):
            yield str(path.relative_to(model.path))


def variables(model):
    prefix = model.path / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        if any(operation.node.op == "VarHandleOp" for operation in model.operations):
            yield "expected variables/variables.index, as the graph has variables"
        return
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            # Reading compares with the checksum of the tensor.
            reader.get_tensor(name)
    except Exception as error:  # The reader raises a Python error of almost any kind, by TensorFlow's code.
        yield f"variables/: {error}"


def assets(model):
    for asset in model.meta_graph.asset_file_def:
        name = pathlib.PurePath(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            yield f"asset {asset.filename}: expected a path inside assets/"
        elif not (model.path / "assets" / name).is_file():
            yield f"asset {asset.filename}: expected this file in assets/"


def _card(model):
    if model.card is None:
        raise NotChecked("no model.json that can be read" if model.card_path.is_file() else "no model.json")
    return model.card


def model_card(model):
    """Whether the card describes the signatures of the graph."""
    if model.card_path.is_file() and model.card is None:
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
    """Whether every file is what it was when the card was written."""
    expected = _card(model).get("checksums")
    if not isinstance(expected, dict):
        yield "model.json: expected the field checksums, {path: sha256}"
        return
    for name in sorted({*expected, "saved_model.pb", *_relative(model, "variables/*")}):
        path = model.path / name
        if name not in expected:
            yield f"{name} is not in checksums"
        elif not path.is_file():
            yield f"{name} is missing"
        elif file_sum(path) != expected[name]:
            yield f"{name} is not the file that the card was written for"


def _relative(model, pattern):
    return [path.relative_to(model.path).as_posix() for path in model.path.glob(pattern)]
