"""Features of images from a frozen Inception graph, a file that the user provides: this project contains none."""

import gzip
import tarfile
import zlib

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.files import file_sum

INPUT = "ExpandDims:0"
OUTPUT = "pool_3:0"

_GZIP_MAGIC = b"\x1f\x8b"


def _graph_in_archive(path):
    """Bytes of the only .pb file in a .tgz; nothing is unpacked to disk."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = [member for member in archive if member.isfile() and member.name.endswith(".pb")]
            if len(members) != 1:
                raise ValueError(f"{path}: expected one .pb file in the archive. Received: {len(members)}")
            return archive.extractfile(members[0]).read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a complete .tgz. Received: {error}") from error


def read_graph(path):
    """`GraphDef` of a frozen graph: a .pb file, or a .tgz with one in it, as downloaded."""
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(_GZIP_MAGIC):
        data = _graph_in_archive(path)
    try:
        graph = tf.compat.v1.GraphDef.FromString(data)
    except DecodeError as error:
        raise ValueError(
            f"{path}: expected a frozen TensorFlow graph (.pb), or a .tgz with one. Received: {error}"
        ) from error
    if not graph.node:
        raise ValueError(f"{path}: expected a frozen TensorFlow graph. Received: one without nodes")
    return graph


def _node_name(tensor):
    return tensor.removeprefix("^").split(":")[0]


def describe_resizing(graph, input_name, output_name):
    """How a `GraphDef` resizes images between two of its tensors, in words.

    For example `"ResizeBilinear to [299, 299], align_corners=False, half_pixel_centers=False"`, or `"none"`.
    """
    nodes = {node.name: node for node in graph.node}
    seen, waiting, found = {_node_name(input_name)}, [_node_name(output_name)], []
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        waiting += map(_node_name, node.input)
        if node.op.startswith("Resize"):
            size = nodes.get(_node_name(node.input[1]))
            known = size is not None and size.op == "Const"
            size = tf.make_ndarray(size.attr["value"].tensor).tolist() if known else "a size that it computes"
            # Older graphs lack the second attribute, which is then false.
            flags = ", ".join(f"{name}={node.attr[name].b}" for name in ("align_corners", "half_pixel_centers"))
            found.append(f"{node.op} to {size}, {flags}")
    return "; ".join(found) or "none"


class InceptionFeatures:
    """Function from images, uint8 [B, H, W, 3], to their features, float32 [B, D].

    The graph itself resizes the images. It runs in a session of TensorFlow 1: the graph of 2015 has operations that
    exist only in graphs of old versions, and a `tf.function` made from it fails when it is called.

    Args:
        path: path of the frozen graph; see `read_graph`.
        input_name: tensor that takes images [B, H, W, 3] of 0 to 255. Default `"ExpandDims:0"`.
        output_name: tensor of the features [B, D] or [B, 1, 1, D]. Default `"pool_3:0"`.

    Attributes:
        sha256: SHA-256 of the file.
        resizing: how the graph resizes images, in words.
        dim: D; 2048 for the reference graph. Known after the first images, or `check`.

    Raises:
        ValueError: the file is not such a graph, or it lacks these tensors.
    """

    def __init__(self, path, input_name=INPUT, output_name=OUTPUT):
        definition = read_graph(path)
        self.sha256, self.dim = file_sum(path), None
        self._path, self._output_name = path, output_name
        names = {node.name for node in definition.node}
        for name in (input_name, output_name):
            if _node_name(name) not in names:
                raise ValueError(
                    f"{path}: expected a node {_node_name(name)} for the tensor {name}. Received: {len(names)} nodes, "
                    f"from {definition.node[0].name} to {definition.node[-1].name}"
                )
        self.resizing = describe_resizing(definition, input_name, output_name)
        graph = tf.Graph()
        with graph.as_default():
            self._images = tf.compat.v1.placeholder(tf.uint8, [None, None, None, 3])
            # It replaces a tensor of one image: shapes are inferred again, for any number of images.
            input_map = {input_name: tf.cast(self._images, tf.float32)}
            try:
                (self._features,) = tf.graph_util.import_graph_def(
                    definition, input_map, return_elements=[output_name], name="inception"
                )
            except (ValueError, tf.errors.OpError) as error:
                raise ValueError(
                    f"{path}: expected a graph that takes float32 images at {input_name} and gives {output_name}. "
                    f"Received: {error}"
                ) from error
        options = tf.compat.v1.ConfigProto()
        # What this pass fuses is unsafe to run in several branches of a graph at once (oneDNN on CPUs).
        options.graph_options.rewrite_options.remapping = 2  # RewriterConfig.OFF
        self._session = tf.compat.v1.Session(graph=graph, config=options)

    def __call__(self, images):
        """Features, float32 [B, D], of images, uint8 [B, H, W, 3]; raises `ValueError` if the graph does not fit."""
        try:
            features = self._session.run(self._features, {self._images: images})
        except tf.errors.InvalidArgumentError as error:
            reason = error.message.splitlines()[0]
            raise ValueError(
                f"{self._path}: expected a graph that takes images {list(images.shape)}. Received: {reason}"
            ) from error
        shape = features.shape
        if len(shape) < 2 or shape[0] != len(images) or any(size != 1 for size in shape[1:-1]):
            raise ValueError(
                f"{self._path}: expected features [{len(images)}, D] or [{len(images)}, 1, 1, D] at "
                f"{self._output_name}. Received: {list(shape)}"
            )
        self.dim = shape[-1]
        return features.reshape(len(images), self.dim).astype(np.float32)

    def check(self, height, width):
        """Tries two images of a size, so that a wrong graph is found before long work."""
        self(np.stack([np.zeros((height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)]))


def to_rgb(images):
    """Converts images [B, H, W, 1 or 3] in [0, 1] to uint8 [B, H, W, 3]; grey is repeated."""
    images = to_uint8(images)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
