"""The reference checkpoints, converted, exported, and run by other runtimes than Keras."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint
from nvae_tf.export.saved_model.export import export_saved_model
from nvae_tf.runs.load import load_run
from nvae_tf.runs.provenance import provenance


def _export(golden, name, folder):
    """(version's folder, model card) of a reference checkpoint: published, so it passed all checks."""
    converted = model_from_checkpoint(read_checkpoint(golden / f"{name}.checkpoint.pt"))
    run = RunFolder(folder / "run").create(converted.config)
    run.save(1, {"model": model_variables(converted)})
    nvae = load_run(run.path)
    options = {"temperature": 0.7, "batch_sizes": (2,), "report": lambda text: None}
    return export_saved_model(nvae, folder / "nvae", provenance(run.path, nvae), **options)


@pytest.fixture(scope="module")
def mnist(golden, tmp_path_factory):
    return _export(golden, "mnist_small_trained", tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def celeba(golden, tmp_path_factory):
    return _export(golden, "celeba64_tiny_5bit", tmp_path_factory.mktemp("celeba"))


@pytest.mark.parametrize("name", ["mnist", "celeba"])
def test_answers_are_those_of_keras(request, name):
    _, card = request.getfixturevalue(name)
    assert card["parity"]["pixels_that_differ"] < 1e-3


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="OpenVINO cannot read TensorFlow's functions in Python 3.13")
def test_openvino_runs_decode(celeba):
    openvino = pytest.importorskip("openvino", reason="a third-party runtime; the dev extra installs it")
    version, _ = celeba
    loaded = tf.saved_model.load(str(version))
    decode = loaded.signatures["decode"]
    specs, rng = decode.structured_input_signature[1], np.random.default_rng(0)
    request = {name: rng.normal(size=(3, *spec.shape[1:])).astype(np.float32) for name, spec in specs.items()}
    request["temperature"] = np.array([0.5, 0.7, 1.0], np.float32)
    model = openvino.convert_model(decode, example_input={name: value[:2] for name, value in request.items()})
    # On processors that have bfloat16 it would compute in that.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(request)
    for name, expected in decode(**{name: tf.constant(value) for name, value in request.items()}).items():
        error = np.max(np.abs(results[name] - expected)) / np.max(np.abs(expected))
        assert error < 1e-3, name


_FUSED = """
import json, sys
import numpy as np
import tensorflow as tf

session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
    signatures = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def
size = [dim.size for dim in signatures["score"].inputs["image"].tensor_shape.dim[1:]]
image = np.zeros([2, *size], np.uint8)
png = [tf.io.encode_png(row).numpy() for row in image]
fused = {}
for name, inputs in {
    "score": {"image": image, "seed": [1, 2]},
    "reconstruct": {"image_bytes": png, "seed": [1, 2], "temperature": [1.0, 1.0]},
}.items():
    signature, metadata = signatures[name], tf.compat.v1.RunMetadata()
    session.run(
        {key: value.name for key, value in signature.outputs.items()},
        {signature.inputs[key].name: value for key, value in inputs.items()},
        options=tf.compat.v1.RunOptions(output_partition_graphs=True),
        run_metadata=metadata,
    )
    nodes = [node for graph in metadata.partition_graphs for node in graph.node if "fused_ops" in node.attr]
    fused[name] = [[op.decode() for op in node.attr["fused_ops"].list.s] for node in nodes]
print(json.dumps(fused))
"""


def test_no_convolution_is_fused_with_an_addition(mnist):
    # On CPUs with oneDNN such kernels are not safe to run twice at the same time, as a server does.
    version, _ = mnist
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _FUSED, str(version)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    for name, fused in json.loads(finished.stdout).items():
        assert fused, f"{name}: expected that oneDNN fuses something, else this shows nothing"
        assert not [ops for ops in fused if "Add" in ops], name
