"""What the rules inspect: a SavedModel's folder, its protobuf and the operations that its signatures reach."""

import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from nvae_tf.export.saved_model.assets_extra import CARD


class NotChecked(Exception):
    """Raised by a rule that does not apply to a model; the message says why."""


class NotReadableError(ValueError):
    """Raised by a rule whose file cannot be read; the message is its finding."""


class Advice(str):
    """A finding that is no failure."""


class Operation(NamedTuple):
    """A NodeDef that a signature reaches, and the name of the function that holds it; empty for the graph itself."""

    node: node_def_pb2.NodeDef
    function: str

    def __str__(self):
        return f"{self.node.op} {self.node.name} in {self.function or 'the graph'}"


@dataclasses.dataclass(frozen=True, eq=False)
class SavedModel:
    """A SavedModel's folder and protobuf."""

    path: pathlib.Path  # absolute, of the version folder
    published: bool  # False for a folder that has yet to get its version number
    base: pathlib.Path  # absolute, of the folder with the server's files and the other versions
    meta_graph: meta_graph_pb2.MetaGraphDef  # whose only tag is "serve", which is what the server loads
    card: dict  # contents of the model card; empty if there is none, or if it holds no JSON object

    @property
    def signatures(self):
        """{name: SignatureDef}, without those that mark TensorFlow's initialisation operation."""
        signatures = self.meta_graph.signature_def.items()
        return {name: signature for name, signature in sorted(signatures) if not name.startswith("__saved_model_")}

    @property
    def tensors(self):
        """(text, name, TensorInfo) of every input and output."""
        for signature_name, signature in self.signatures.items():
            for kind, infos in (("input", signature.inputs), ("output", signature.outputs)):
                for name, info in sorted(infos.items()):
                    yield f"{kind} {name} of {signature_name}", name, info

    @functools.cached_property
    def operations(self):
        """List of `Operation` that the signatures reach, in the graph and in the functions that it calls."""
        graph = self.meta_graph.graph_def
        library = {function.signature.name: function for function in graph.library.function}
        nodes, seen, operations = {node.name: node for node in graph.node}, set(), []
        pending = [nodes.get(info.name.partition(":")[0]) for _, _, info in self.tensors]
        while pending:
            node = pending.pop()
            if node is not None and node.name not in seen:
                seen.add(node.name)
                operations.append(Operation(node, ""))
                pending.extend(nodes.get(name.lstrip("^").partition(":")[0]) for name in node.input)
        for operation in operations:
            # The list grows while it is walked, because functions call functions.
            attributes = operation.node.attr.values()
            called = [function.name for value in attributes for function in (value.func, *value.list.func)]
            for name in filter(library.__contains__, (operation.node.op, *called)):
                operations.extend(Operation(node, name) for node in library.pop(name).node_def)
        return operations


def version_folders(base_path):
    """{number: path} of the version folders of a base path."""
    return {int(path.name): path for path in base_path.iterdir() if path.is_dir() and is_version(path.name)}


def is_version(name):
    """Whether the server treats a folder with this name as a version, which is a 64-bit number."""
    return name.isascii() and name.isdecimal() and int(name) < 2**63


def find_version(path):
    """The version folder that a path names: itself if it holds a SavedModel, else the newest version below it."""
    path = pathlib.Path(path).resolve()
    if (path / "saved_model.pb").is_file():
        return path
    folders = version_folders(path) if path.is_dir() else {}
    if not folders:
        received = sorted(entry.name for entry in path.iterdir())[:5] if path.is_dir() else "no such folder"
        expected = "a folder with saved_model.pb, or one with such folders named 1, 2, ..."
        raise ValueError(f"{path}: expected {expected} Received: {received}")
    return folders[max(folders)]


def read_saved_model(version_dir, published=True, base_dir=None):
    """`SavedModel` of a folder; ValueError unless its saved_model.pb has a graph for servers.

    It is not `published` until it is named by its version number. `base_dir` is the folder with the server's files and
    the other versions; None if it holds `version_dir`.
    """
    path = pathlib.Path(version_dir).resolve()
    file = path / "saved_model.pb"
    try:
        meta_graphs = saved_model_pb2.SavedModel.FromString(file.read_bytes()).meta_graphs
    except (OSError, DecodeError) as error:
        raise ValueError(f"{file}: expected the protobuf of a SavedModel. Received: {error}") from error
    tags = [list(meta_graph.meta_info_def.tags) for meta_graph in meta_graphs]
    if ["serve"] not in tags:
        raise ValueError(f"{file}: expected a graph whose only tag is serve. Received: {tags or 'no graph'}")
    base = pathlib.Path(base_dir or path.parent).resolve()
    return SavedModel(path, published, base, meta_graphs[tags.index(["serve"])], _read_card(path))


def _read_card(path):
    try:
        card = json.loads((path / "assets.extra" / CARD).read_text())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}
