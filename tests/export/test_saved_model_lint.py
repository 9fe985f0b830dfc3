"""A good SavedModel passes every rule; for each rule a broken one is caught by that rule alone."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from nvae_tf.export import saved_model_replay
from nvae_tf.export.saved_model_contents import NotASavedModelError, find_version
from nvae_tf.export.saved_model_lint import CHECKS, EXECUTES, lint

_BATCHING = """
max_batch_size { value: 2 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 8 }
num_batch_threads { value: 1 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
"""
_MODELS = """model_config_list { config {
  name: "nvae" base_path: "/models/nvae" model_platform: "tensorflow" version_labels { key: "stable" value: 1 }
} }"""
_MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
_WARMUP = pathlib.Path("assets.extra", "tf_serving_warmup_requests")


class _Good(tf.Module):
    """The contract in the small: per-row seeds and temperatures in, pixels and PNG files out."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=[3, 12]), dtype=tf.float32, name="kernel")

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64, "seed"), tf.TensorSpec([None], tf.float32, "temperature")]
    )
    def sample(self, seed, temperature):
        checks = [tf.debugging.assert_positive(temperature, message="temperature: expected positive values")]
        with tf.control_dependencies(checks):
            wave = tf.sin(tf.cast(seed, tf.float32)[:, None] * [1.0, 2.0, 3.0]) * temperature[:, None]
        image = tf.reshape(tf.cast(tf.sigmoid(wave @ self.kernel) * 255, tf.uint8), [-1, 2, 6, 1])
        return {"image": image, "png_bytes": tf.map_fn(tf.io.encode_png, image, fn_output_signature=tf.string)}


def _meta_graph(version):
    return saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]


def _write_warmup(version, records):
    with tf.io.TFRecordWriter(str(version / _WARMUP)) as writer:
        for record in records:
            writer.write(record)


def _record(name, **inputs):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def _sample_record(name, rows, temperature=1.0):
    return _record(name, seed=np.arange(rows), temperature=np.full(rows, temperature, np.float32))


def _complete(version):
    """Writes the model card and the warm-up file that fit a version's graph."""
    signatures = {k: v for k, v in _meta_graph(version).signature_def.items() if not k.startswith("__")}
    described = {
        name: {kind: {k: _describe(v) for k, v in getattr(s, kind).items()} for kind in ("inputs", "outputs")}
        for name, s in signatures.items()
    }
    files = [version / "saved_model.pb", *(version / "variables").glob("*")]
    sums = {f.relative_to(version).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    card = {"allowed_batch_sizes": [1, 2], "signatures": described, "checksums": sums}
    (version / "assets.extra").mkdir(exist_ok=True)
    (version / "assets.extra" / "model.json").write_text(json.dumps(card))
    with_inputs = [name for name, signature in signatures.items() if signature.inputs]
    _write_warmup(version, [_sample_record(name, rows) for name in with_inputs for rows in (1, 2)])


def _describe(info):
    shape = [None if dim.size == -1 else dim.size for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": shape}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Version folder of a SavedModel that keeps every rule. Shared: no test may write to it."""
    version = tmp_path_factory.mktemp("base") / "nvae" / "1"
    module = _Good()
    tf.saved_model.save(module, str(version), signatures={"serving_default": module.sample, "sample": module.sample})
    _complete(version)
    inputs = {"seed": np.array([3, 4]), "temperature": np.array([1, 0.5], np.float32)}
    answer = {name: value.numpy() for name, value in module.sample(**inputs).items()}
    golden = {f"sample/inputs/{name}": value for name, value in inputs.items()}
    golden |= {"sample/outputs/image": answer["image"]}
    golden |= {f"sample/outputs/png_bytes/{i}": np.frombuffer(p, np.uint8) for i, p in enumerate(answer["png_bytes"])}
    np.savez(version / "assets.extra" / "golden.npz", **golden)
    for name, text in (("batching_parameters.txt", _BATCHING), ("models.config", _MODELS)):
        (version.parent / name).write_text(text)
    (version.parent / "monitoring.config").write_text(_MONITORING)
    return version


@pytest.fixture
def version(good, tmp_path):
    """A copy of it that a test may break."""
    shutil.copytree(good.parent, tmp_path / "nvae")
    return tmp_path / "nvae" / "1"


def _failed(results):
    return {result.name: result.detail for result in results if not result.passed}


def test_good_passes(good):
    results = lint(good)
    assert {result.name: result.status for result in results} == {c.name: "passed" for c in (*CHECKS, EXECUTES)}
    assert all(result.reason for result in results)


# What breaks the graph: functions of the MetaGraphDef.


def _operation(op, device="", **attributes):
    """Adds an operation to the function that the signatures call last."""

    def edit(graph):
        library = graph.graph_def.library.function
        function = next(f for f in library if any(node.op == "MatMul" for node in f.node_def))
        node = function.node_def.add(name="added", op=op, device=device)
        for name, value in attributes.items():
            setattr(node.attr[name], *value)

    return edit


def _tags(graph):
    graph.meta_info_def.tags[:] = ["serve", "gpu"]


def _no_default(graph):
    del graph.signature_def["serving_default"]


def _method(graph):
    graph.signature_def["sample"].method_name = "tensorflow/serving/classify"


def _no_inputs(graph):
    graph.signature_def["sample"].ClearField("inputs")


def _rename(old, new):
    def edit(graph):
        outputs = graph.signature_def["sample"].outputs
        outputs[new].CopyFrom(outputs[old])
        del outputs[old]

    return edit


def _image(text):
    """Merges a text of TensorInfo into that of the image."""
    return lambda graph: text_format.Merge(text, graph.signature_def["sample"].outputs["image"])


def _scalar(graph):
    graph.signature_def["sample"].outputs["image"].tensor_shape.ClearField("dim")


def _unknown_rank(graph):
    _scalar(graph)
    graph.signature_def["sample"].outputs["image"].tensor_shape.unknown_rank = True


def _fixed_batch(graph):
    graph.signature_def["sample"].outputs["image"].tensor_shape.dim[0].size = 8


def _jit(graph):
    for function in graph.graph_def.library.function:
        function.attr["_XlaMustCompile"].b = True


def _variable(graph):
    for node in graph.graph_def.node:
        if node.op == "VarHandleOp":
            node.attr["dtype"].type = tf.bfloat16.as_datatype_enum


def _asset(path):
    return lambda graph: graph.asset_file_def.add(filename=path)


_GRAPHS = {
    "other-tags": ("serve_tag", _tags, "['serve', 'gpu']"),
    "no-default": ("serving_default", _no_default, "['sample']"),
    "classify": ("method_name", _method, "signature sample"),
    "no-inputs": ("inputs_outputs", _no_inputs, "signature sample has no input"),
    "slash": ("plain_names", _rename("image", "a/image"), "'a/image'"),
    "no-tensor": ("tensors", _image('name: "nowhere:0"'), "output image of sample"),
    "sparse": ("tensors", _image('coo_sparse { values_tensor_name: "a:0" }'), "coo_sparse"),
    "scalar": ("no_scalars", _scalar, "output image of sample is a scalar"),
    "unknown-rank": ("no_scalars", _unknown_rank, "of unknown rank"),
    "fixed-batch": ("batch_dimension", _fixed_batch, "[8, 2, 6, 1]"),
    "half": ("no_half", _image("dtype: DT_HALF"), "output image of sample is float16"),
    "bfloat16": ("no_half", _image("dtype: DT_BFLOAT16"), "is bfloat16"),
    "string": ("bytes_names", _rename("png_bytes", "png"), "output png of sample"),
    "unknown-operation": ("known_operations", _operation("NoSuchOp"), "NoSuchOp"),
    "gpu-operation": ("cpu_kernels", _operation("NcclAllReduce"), "NcclAllReduce added in"),
    "gpu": ("devices", _operation("NoOp", device="/device:GPU:0"), "/device:GPU:0"),
    "tpu": ("devices", _operation("NoOp", device="/job:worker/task:1/device:TPU:0"), "TPU"),
    "random-normal": ("stateless_random", _operation("RandomStandardNormal"), "RandomStandardNormal added"),
    "random-uniform": ("stateless_random", _operation("RandomUniform"), "RandomUniform added"),
    "stateful-uniform": ("stateless_random", _operation("StatefulUniform"), "StatefulUniform added"),
    "generator": ("stateless_random", _operation("RngReadAndSkip"), "RngReadAndSkip added"),
    "py-function": ("no_python", _operation("EagerPyFunc"), "EagerPyFunc added"),
    "numpy-function": ("no_python", _operation("PyFunc"), "PyFunc added"),
    "stateless-py-function": ("no_python", _operation("PyFuncStateless"), "PyFuncStateless added"),
    "jit": ("no_xla", _jit, "jit_compile=True"),
    "xla-operation": ("no_xla", _operation("XlaDot"), "XlaDot added"),
    "batch-norm": ("no_training", _operation("FusedBatchNormV3", is_training=("b", True)), "is_training=True"),
    "batch-norm-default": ("no_training", _operation("FusedBatchNormV3"), "is_training=True"),
    "optimizer": ("no_training", _operation("ResourceApplyAdam"), "ResourceApplyAdam added"),
    "assignment": ("no_state", _operation("AssignVariableOp"), "AssignVariableOp added"),
    "bfloat16-variable": ("float32_variables", _variable, "variable kernel is bfloat16"),
    "absolute-asset": ("assets", _asset("/home/me/words.txt"), "/home/me/words.txt"),
    "outside-asset": ("assets", _asset("../words.txt"), "../words.txt"),
    "missing-asset": ("assets", _asset("words.txt"), "words.txt"),
}


def _edit(version, edit):
    content = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    edit(content.meta_graphs[0])
    (version / "saved_model.pb").write_bytes(content.SerializeToString())


@pytest.mark.parametrize("case", _GRAPHS)
def test_broken_graph(version, case):
    rule, edit, words = _GRAPHS[case]
    _edit(version, edit)
    _complete(version)
    results = lint(version)
    failed = _failed(results)
    assert list(failed) == [rule]
    assert words in failed[rule]
    assert (results[-1].name, results[-1].status) == ("executes", "not checked")


_ADVICE = {
    "float64": ("float64", _operation("AddV2", T=("type", tf.float64.as_datatype_enum)), "AddV2 added"),
    "large-reply": ("reply_size", _image("tensor_shape { dim { size: 400000 } }"), "signature sample answers 2 rows"),
}


@pytest.mark.parametrize("case", _ADVICE)
def test_advice(version, case):
    rule, edit, words = _ADVICE[case]
    _edit(version, edit)
    _complete(version)
    results = lint(version, execute=False)
    assert not _failed(results)
    notes = {result.name: result.detail for result in results if result.status == "note"}
    assert list(notes) == [rule]
    assert words in notes[rule]


# What breaks the files: functions of the version folder.


def _replace(name, old, new):
    def edit(version):
        path = version / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


def _card(**fields):
    def edit(version):
        path = version / "assets.extra" / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


def _warmup(*records):
    """Adds records to the good ones."""
    good = [_sample_record(name, rows) for name in ("sample", "serving_default") for rows in (1, 2)]
    return lambda version: _write_warmup(version, [*good, *records])


def _cut_variables(version):
    path = version / "variables" / "variables.data-00000-of-00001"
    os.truncate(path, path.stat().st_size // 2)
    _complete(version)


def _no_index(version):
    (version / "variables" / "variables.index").unlink()
    _complete(version)


_SEED, _TEMPERATURE = np.arange(2), np.ones(2, np.float32)
_SESSION_LOG = prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()
_FILES = {
    "temporary-file": ("leftovers", lambda version: (version / "saved_model.pb.tmp7").touch(), "saved_model.pb.tmp7"),
    "temporary-folder": ("leftovers", lambda version: (version / "variables_temp").mkdir(), "variables_temp"),
    "cut-variables": ("variables", _cut_variables, "variables/: "),
    "no-index": ("variables", _no_index, "variables.index"),
    "changed-file": (
        "checksums",
        lambda version: (version / "saved_model.pb").open("ab").write(b"\xf8\x7f\x00"),
        "saved_model.pb is not the file",
    ),
    "missing-file": ("checksums", _replace("assets.extra/model.json", "variables.i", "no.i"), "variables/no.index"),
    "no-checksums": ("checksums", _card(checksums=None), "checksums"),
    "card-no-json": (
        "model_card",
        lambda version: (version / "assets.extra" / "model.json").write_text("{"),
        "expected a JSON object",
    ),
    "card-dtype": ("model_card", _replace("assets.extra/model.json", "uint8", "int32"), "signature sample"),
    "card-signature": ("model_card", _card(signatures={}), "signature sample: expected"),
    "card-fields": ("model_card", _card(signatures={"sample": 1}), "TypeError"),
    "card-sizes": ("model_card", _card(allowed_batch_sizes="12"), "allowed_batch_sizes"),
    "card-other-sizes": ("batching_parameters", _card(allowed_batch_sizes=[1]), "as in model.json, [1]"),
    "batching-field": (
        "batching_parameters",
        _replace("../batching_parameters.txt", "num_", "no_"),
        "no_batch_threads",
    ),
    "batching-order": (
        "batching_parameters",
        _replace("../batching_parameters.txt", "sizes: 1", "sizes: 2"),
        "expected ascending",
    ),
    "batching-last": ("batching_parameters", _replace("../batching_parameters.txt", "value: 2", "value: 4"), "4"),
    "batching-zero": (
        "batching_parameters",
        _replace("../batching_parameters.txt", "num_batch_threads { value: 1", "num_batch_threads { value: 0"),
        "num_batch_threads >= 1. Received: 0",
    ),
    "models-no-text": ("models_config", _replace("../models.config", "config {", "config ["), "models.config: 2:3"),
    "models-relative": ("models_config", _replace("../models.config", "/models/", "models/"), "'models/nvae'"),
    "models-platform": ("models_config", _replace("../models.config", '"tensorflow"', '"torch"'), "'torch'"),
    "models-label": ("models_config", _replace("../models.config", "value: 1", "value: 7"), "the version 7"),
    "models-empty": ("models_config", lambda version: (version.parent / "models.config").write_text(""), "a config"),
    "monitoring-text": ("monitoring_config", _replace("../monitoring.config", "enable", "enabled"), "enabled"),
    "monitoring-path": ("monitoring_config", _replace("../monitoring.config", '"/', '"'), "'monitoring/"),
    "no-warmup": ("warmup_file", lambda version: (version / _WARMUP).unlink(), "expected assets.extra/"),
    "warmup-no-record": ("warmup_file", lambda version: (version / _WARMUP).write_bytes(b"x" * 40), "TFRecord"),
    "warmup-cut": ("warmup_file", lambda version: os.truncate(version / _WARMUP, 150), "TFRecord"),
    "warmup-no-log": ("warmup_file", _warmup(b"\xff"), "record 4: expected a PredictionLog"),
    "warmup-other-log": ("warmup_file", _warmup(_SESSION_LOG), "expected a PredictionLog with a predict_log"),
    "warmup-too-many": ("warmup_file", _warmup(*[_sample_record("sample", 1)] * 997), "Received: 1,001"),
    "warmup-empty": ("warmup_file", lambda version: (version / _WARMUP).write_bytes(b""), "Received: 0"),
    "warmup-signature": ("warmup_requests", _warmup(_sample_record("other", 1)), "no signature 'other'"),
    "warmup-input": ("warmup_requests", _warmup(_record("sample", seed=_SEED)), "Received: ['seed']"),
    "warmup-dtype": (
        "warmup_requests",
        _warmup(_record("sample", seed=_SEED.astype(np.int32), temperature=_TEMPERATURE)),
        "input seed: expected int64. Received: int32",
    ),
    "warmup-rank": (
        "warmup_requests",
        _warmup(_record("sample", seed=_SEED[:, None], temperature=_TEMPERATURE)),
        "expected the shape [-1]. Received: [2, 1]",
    ),
    "warmup-rows": (
        "warmup_requests",
        _warmup(_record("sample", seed=_SEED[:1], temperature=_TEMPERATURE)),
        "expected one batch size. Received: [1, 2]",
    ),
    "warmup-size": (
        "warmup_coverage",
        lambda version: _write_warmup(version, [_sample_record(n, 1 + (n == "sample")) for n in _BOTH for _ in "ab"]),
        "no request of sample with the batch size 1",
    ),
}
_BOTH = ("sample", "serving_default")


@pytest.mark.parametrize("case", _FILES)
def test_broken_files(version, case):
    rule, edit, words = _FILES[case]
    edit(version)
    failed = _failed(lint(version, execute=False))
    assert list(failed) == [rule]
    assert words in failed[rule]


def test_each_rule_has_a_broken_model():
    """The tables above name every rule but two, which have tests of their own: version_name and executes."""
    named = {rule for rule, _, _ in (*_GRAPHS.values(), *_ADVICE.values(), *_FILES.values())}
    assert named == {check.name for check in CHECKS} - {"version_name"}


def test_version_name(version):
    """The exporter checks a version before it gets its number."""
    shutil.copytree(version, version.with_name("tmp_2"))
    failed = _failed(lint(version.with_name("tmp_2"), execute=False))
    assert list(failed) == ["version_name"]
    assert "Received: tmp_2" in failed["version_name"]
    assert not _failed(lint(version.with_name("tmp_2"), published=False, execute=False))


def test_executes(version):
    """A request that the graph refuses and an answer that is not the golden one; a wrong card does not hide them."""
    _card(checksums={})(version)
    _warmup(_sample_record("sample", 1, temperature=0.0))(version)
    path = version / "assets.extra" / "golden.npz"
    with np.load(path) as file:
        golden = dict(file)
    golden["sample/outputs/image"] = golden["sample/outputs/image"] ^ 1
    np.savez(path, **golden)
    failed = _failed(lint(version))
    assert list(failed) == ["checksums", "executes"]
    assert "record 4, signature sample: " in failed["executes"]
    assert "temperature: expected positive values" in failed["executes"]
    assert "golden.npz, output image of sample: 100.00% of the values differ" in failed["executes"]
    assert "png_bytes" not in failed["executes"]


class _Bad(tf.Module):
    """What people save: XLA, Python, two kinds of noise that is no function of a seed, a batch norm that trains."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)
        self.kept = self.seeds.state.value

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def call(self, x):
        noise = tf.random.normal(tf.shape(x)) + keras.random.normal(tf.shape(x), seed=self.seeds)
        image = tf.reshape(x + noise, [-1, 2, 2, 1])
        image, _, _ = tf.compat.v1.nn.fused_batch_norm(image, [1.0], [0.0], is_training=True)
        return tf.numpy_function(np.sin, [tf.reshape(image, [-1]) + _compiled(x)], tf.float32)


@tf.function(jit_compile=True)
def _compiled(x):
    return x * 2


def test_what_tensorflow_writes(tmp_path):
    """The rules know the operations by the names that TensorFlow writes; the runtime refuses XLA as the server does."""
    module, version = _Bad(), tmp_path / "3"
    tf.saved_model.save(module, str(version), signatures=module.call.get_concrete_function())
    results = lint(version)
    expected = {"stateless_random", "no_python", "no_xla", "no_training", "no_state", "no_scalars", "warmup_file"}
    assert set(_failed(results)) == expected
    assert {r.name for r in results if r.status == "not checked"} >= {"model_card", "models_config", "warmup_coverage"}

    (version / "assets.extra").mkdir()
    _write_warmup(version, [_record("", x=np.ones(4, np.float32))])
    program = [sys.executable, "-P", saved_model_replay.__file__, str(version)]
    process = subprocess.run(program, capture_output=True, text=True, timeout=200)
    assert "XLA compilation disabled" in json.loads(process.stdout)[0]


def test_base_path(version, tmp_path):
    """The newest version by number, not by name."""
    for name in ("9", "10", "tmp_11"):
        shutil.copytree(version, version.with_name(name))
    assert find_version(version.parent) == version.with_name("10")
    assert find_version(version) == version


def _damage(version):
    (version / "saved_model.pb").write_bytes(b"\x12\xff\xff\xff\x0f not a protobuf")


_NOT_SAVED_MODELS = {
    "damaged": (_damage, "a damaged file"),
    "empty": (lambda version: (version / "saved_model.pb").write_bytes(b""), "0 bytes without any graph"),
    "too-large": (lambda version: os.truncate(version / "saved_model.pb", 2**31), "expected less than 2 GiB"),
    "missing": (lambda version: (version / "saved_model.pb").unlink(), "expected the protobuf of a SavedModel"),
}


@pytest.mark.parametrize("case", _NOT_SAVED_MODELS)
def test_not_a_saved_model(version, case):
    damage, words = _NOT_SAVED_MODELS[case]
    damage(version)
    with pytest.raises(NotASavedModelError, match=words):
        lint(version)


def test_no_version(version, tmp_path):
    (version / "saved_model.pb").unlink()
    with pytest.raises(
        NotASavedModelError, match="/1: expected saved_model.pb in every version. Received: a folder with"
    ):
        find_version(version.parent)
    for path, words in ((tmp_path, "a folder with nvae"), (tmp_path / "no", "nothing there"), (__file__, "a file")):
        with pytest.raises(NotASavedModelError, match=f"expected a folder with saved_model.pb.*Received: {words}"):
            find_version(path)
