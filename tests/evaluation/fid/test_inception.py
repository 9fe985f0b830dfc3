import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation.fid.inception import InceptionFeatures, read_graph, to_rgb

_SIZE = 9  # of the images within the graph
_FLOAT = tf.float32.as_datatype_enum


def _constant(graph, name, value):
    node = graph.node.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node.attr["dtype"].type = tf.as_dtype(np.asarray(value).dtype).as_datatype_enum


def _node(graph, name, op, inputs, **lists):
    node = graph.node.add(name=name, op=op, input=inputs)
    node.attr["T"].type = _FLOAT
    for attribute, values in lists.items():
        node.attr[attribute].list.i.extend(values)
    if lists:
        node.attr["padding"].s = b"VALID"
    return node


@pytest.fixture(scope="module")
def weights():
    """Kernel [3, 3, 3, 16] and the batch norm's mean, variance, offset and scale [16]."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, 16)).astype(np.float32)
    return kernel, *(rng.uniform(0.5, 1.5, 16).astype(np.float32) for _ in range(4))


@pytest.fixture
def graph(weights):
    """The essentials of the graph of 2015: a single image as input, its old version, and an operation removed since."""
    graph = tf.compat.v1.GraphDef()
    graph.versions.producer = 8
    node = graph.node.add(name="Cast", op="Placeholder")
    node.attr["dtype"].type = _FLOAT
    node.attr["shape"].shape.CopyFrom(tf.TensorShape([7, 6, 3]).as_proto())
    _constant(graph, "ExpandDims/dim", np.int32(0))
    _node(graph, "ExpandDims", "ExpandDims", ["Cast", "ExpandDims/dim"])  # [1, 7, 6, 3]
    _constant(graph, "size", np.array([_SIZE, _SIZE], np.int32))
    _node(graph, "ResizeBilinear", "ResizeBilinear", ["ExpandDims", "size"])
    _constant(graph, "scale", np.float32(1 / 128))
    _node(graph, "Mul", "Mul", ["ResizeBilinear", "scale"])
    for name, value in zip(("kernel", "mean", "variance", "beta", "gamma"), weights, strict=True):
        _constant(graph, name, value)
    _node(graph, "conv", "Conv2D", ["Mul", "kernel"], strides=[1, 1, 1, 1])
    inputs = ["conv", "mean", "variance", "beta", "gamma"]
    norm = _node(graph, "norm", "BatchNormWithGlobalNormalization", inputs)
    norm.attr["variance_epsilon"].f = 1e-3
    norm.attr["scale_after_normalization"].b = True
    _node(graph, "relu", "Relu", ["norm"])
    side = _SIZE - 2
    _node(graph, "pool_3", "AvgPool", ["relu"], ksize=[1, side, side, 1], strides=[1, 1, 1, 1])
    _constant(graph, "shape", np.array([1, 16], np.int32))
    _node(graph, "pool_3/_reshape", "Reshape", ["pool_3", "shape"])  # of one image alone
    return graph


@pytest.fixture
def graph_file(graph, tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    return path


def _archive(path, **members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{name}.pb" if name.startswith("graph") else name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _images(num, height=7, width=6):
    return np.random.default_rng(1).integers(0, 256, (num, height, width, 3)).astype(np.uint8)


def _resize(images):
    """Bilinear without half-pixel centres: output i is at i * size / 9, and the last pixel is repeated."""

    def along(images, axis):
        size = images.shape[axis]
        places = np.arange(_SIZE) * (size / _SIZE)
        low = np.floor(places).astype(int)
        part = (places - low).reshape([-1 if i == axis else 1 for i in range(4)])
        high = np.minimum(low + 1, size - 1)
        return images.take(low, axis) * (1 - part) + images.take(high, axis) * part

    return along(along(images.astype(np.float64), 1), 2)


def _expected(images, weights):
    kernel, mean, variance, beta, gamma = weights
    patches = np.lib.stride_tricks.sliding_window_view(_resize(images) / 128, (3, 3), axis=(1, 2))
    outputs = np.einsum("bhwcij,ijcf->bhwf", patches, kernel)
    outputs = (outputs - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    return np.maximum(outputs, 0).mean(axis=(1, 2))


@pytest.mark.parametrize("size", [(7, 6), (32, 20)])
def test_features_are_those_of_the_graph_for_any_number_of_images(graph_file, weights, size):
    extractor = InceptionFeatures(graph_file)
    images = _images(5, *size)
    features = extractor(images)
    assert features.shape == (5, 16) and features.dtype == np.float32 and extractor.dim == 16
    np.testing.assert_allclose(features, _expected(images, weights), rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(extractor(images[3:4]), features[3:4], rtol=1e-5, atol=1e-5)


def test_the_resizing_is_described(graph_file):
    expected = "ResizeBilinear to [9, 9], align_corners=False, half_pixel_centers=False"
    assert InceptionFeatures(graph_file).resizing == expected


def test_other_tensors_can_be_named(graph_file, weights):
    extractor = InceptionFeatures(graph_file, "ResizeBilinear:0", "pool_3:0")
    assert extractor.resizing == "none"
    images = _images(2, _SIZE, _SIZE)
    np.testing.assert_allclose(extractor(images), _expected(images, weights), rtol=2e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"graph.pb: expected .* Received: "):
        extractor.check(_SIZE - 3, _SIZE + 1)


def test_an_archive_works_too(graph, graph_file, tmp_path):
    data = graph_file.read_bytes()
    path = _archive(tmp_path / "inception.tgz", readme=b"text", graph=data)
    assert read_graph(path) == graph
    np.testing.assert_array_equal(InceptionFeatures(path)(_images(2)), InceptionFeatures(graph_file)(_images(2)))


def test_wrong_archives_are_refused(graph_file, tmp_path):
    data = graph_file.read_bytes()
    for members, count in (({"readme": b"text"}, 0), ({"graph": data, "graph2": data}, 2)):
        path = _archive(tmp_path / "inception.tgz", **members)
        with pytest.raises(ValueError, match=f"inception.tgz: expected one .pb file in the archive. Received: {count}"):
            read_graph(path)
    whole = _archive(path, graph=np.random.default_rng(0).bytes(100_000)).read_bytes()
    path.write_bytes(whole[:50_000])
    with pytest.raises(ValueError, match="inception.tgz: expected a complete .tgz. Received: "):
        read_graph(path)


@pytest.mark.parametrize("data", [b"<html>not found</html>", b""])
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "graph.pb"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="graph.pb: expected a frozen TensorFlow graph"):
        read_graph(path)


@pytest.mark.parametrize(
    "names, message",
    [
        (("input:0", "pool_3:0"), "expected a node input for the tensor input:0. Received: 18 nodes, from Cast to"),
        (("ExpandDims:0", "pool:0"), "expected a node pool for the tensor pool:0"),
        (("ExpandDims:0", "pool_3:5"), "expected a graph that takes float32 images at ExpandDims:0 and gives pool_3:5"),
        (("size:0", "pool_3:0"), "expected a graph that takes float32 images at size:0"),
    ],
)
def test_missing_tensors_are_named(graph_file, names, message):
    with pytest.raises(ValueError, match=f"graph.pb: {message}"):
        InceptionFeatures(graph_file, *names)


@pytest.mark.parametrize(
    "output, message",
    [
        ("relu:0", r"expected features \[2, D\] or \[2, 1, 1, D\] at relu:0. Received: \[2, 7, 7, 16\]"),
        ("pool_3/_reshape:0", r"expected a graph that takes images \[2, 7, 6, 3\]. Received: "),
        ("scale:0", r"expected features \[2, D\] .* Received: \[\]"),
    ],
)
def test_graphs_with_other_outputs_are_found_at_once(graph_file, output, message):
    extractor = InceptionFeatures(graph_file, output_name=output)
    with pytest.raises(ValueError, match=message):
        extractor.check(7, 6)


def test_to_rgb_rounds_clips_and_repeats_grey():
    values = np.array([0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 1.0, 1.2, -0.1]).reshape(1, 1, 7, 1)
    images = to_rgb(values)
    assert images.dtype == np.uint8 and images.shape == (1, 1, 7, 3)
    for channel in range(3):
        assert images[0, 0, :, channel].tolist() == [0, 0, 1, 127, 255, 255, 0]
