"""Features of images from a frozen Inception graph that the user has; none is part of this project."""

import gzip
import hashlib
import os
import tarfile
import zlib

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

INPUT = "ExpandDims:0"
OUTPUT = "pool_3:0"

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BYTES = 2**31 - 1  # of a protocol buffer


def _graph_in_archive(path):
    """Bytes of the one .pb file in a .tgz; nothing is unpacked to disk."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = [member for member in archive if member.isfile() and member.name.endswith(".pb")]
            if len(members) != 1:
                raise ValueError(f"{path}: expected one .pb file in the archive. Received: {len(members)}")
            if members[0].size > _MAX_BYTES:
                raise ValueError(f"{path}: expected a .pb file below 2 GiB. Received: {members[0].size} bytes")
            return archive.extractfile(members[0]).read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole .tgz. Received: {error}") from error


def read_graph(path):
    """Reads a frozen graph.

    Args:
        path: of a .pb (`GraphDef`), or of a .tgz with one in it, as downloaded.

    Returns:
        (`GraphDef`, SHA-256 of the file as hexadecimal digits).

    Raises:
        ValueError: neither of them, or damaged.
        FileNotFoundError: there is no such file.
    """
    size = os.path.getsize(path)
    if size > _MAX_BYTES:
        raise ValueError(f"{path}: expected a file below 2 GiB. Received: {size} bytes")
    with open(path, "rb") as file:
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
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
    return graph, digest


def _node_name(tensor):
    return tensor.removeprefix("^").split(":")[0]


def describe_resizing(graph, input_name, output_name):
    """What the graph does to the size of images: its resizing nodes between two tensors, in words.

    Args:
        graph: `GraphDef`.
        input_name, output_name: names of tensors.

    Returns:
        As `"ResizeBilinear to [299, 299], align_corners=False, half_pixel_centers=False"`, or `"none"`.
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
            size = tf.make_ndarray(size.attr["value"].tensor).tolist() if known else "a size of its own"
            # Older graphs do not have the second attribute, which is then false.
            flags = ", ".join(f"{name}={node.attr[name].b}" for name in ("align_corners", "half_pixel_centers"))
            found.append(f"{node.op} to {size}, {flags}")
    return "; ".join(found) or "none"


class InceptionFeatures:
    """Function from images, uint8 [B, H, W, 3], to their features, float32 [B, D].

    The graph itself brings the images to its size. It runs in a session of TensorFlow 1: the graph of 2015 has
    operations that exist only in graphs of old versions, and a `tf.function` made from it is refused when it runs.

    Args:
        path: of the frozen graph; see `read_graph`.
        input_name: tensor that takes images [B, H, W, 3] of 0 to 255. Default `"ExpandDims:0"`.
        output_name: tensor of the features [B, D] or [B, 1, 1, D]. Default `"pool_3:0"`.

    Attributes:
        sha256: of the file.
        resizing: what the graph does to the size of images, in words.
        dim: D; 2048 for the reference graph. Known after the first images, or `check`.

    Raises:
        ValueError: no such graph, or it has no such tensors.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path, input_name=INPUT, output_name=OUTPUT):
        definition, self.sha256 = read_graph(path)
        self._path, self._output_name, self.dim = path, output_name, None
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
            # In the place of a tensor of one image: shapes are inferred anew, for any number of them.
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
        # What this pass fuses is not safe to run in several branches of a graph at once (oneDNN on CPUs).
        options.graph_options.rewrite_options.remapping = 2  # RewriterConfig.OFF
        self._session = tf.compat.v1.Session(graph=graph, config=options)

    def __call__(self, images):
        """Features, float32 [B, D], of uint8 [B, H, W, 3]; raises `ValueError` for others, and for a wrong graph."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images: expected uint8 [B, H, W, 3]. Received: {images.dtype} {list(images.shape)}")
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
        return self(np.stack([np.zeros((height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)]))


def to_rgb(images):
    """uint8 [B, H, W, 3] of images [B, H, W, 1 or 3] in [0, 1]: rounded to 0 to 255; grey three times."""
    images = np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
