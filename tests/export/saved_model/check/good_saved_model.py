"""A small SavedModel that keeps every rule of TensorFlow Serving, and what tests need to break it."""

import json
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from nvae_tf.export.saved_model.check.contents import read_saved_model
from nvae_tf.export.saved_model.check.lint import lint_saved_model
from nvae_tf.files import file_sum
from nvae_tf.golden_answers import write_npz

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
_MONITORING = 'prometheus_config { enable: true path: "/metrics" }'
WARMUP = pathlib.Path("assets.extra", "tf_serving_warmup_requests")


class _Good(tf.Module):
    """The contract in small: per-row seeds and temperatures in, pixels and PNG files out."""

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


def write_warmup(version, records):
    """Writes the warm-up file of serialised records."""
    with tf.io.TFRecordWriter(str(version / WARMUP)) as writer:
        for content in records:
            writer.write(content)


def record(name, **inputs):
    """A serialised PredictionLog of a request."""
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def sample_record(name, rows, temperature=1.0):
    """A serialised PredictionLog of a request that the good signatures accept."""
    return record(name, seed=np.arange(rows), temperature=np.full(rows, temperature, np.float32))


def complete(version):
    """Writes the model card and the warm-up file that fit a version's graph."""
    signatures = read_saved_model(version).signatures
    files = [version / "saved_model.pb", *(version / "variables").glob("*")]
    sums = {f.relative_to(version).as_posix(): file_sum(f) for f in files}
    specs = {
        name: {"inputs": _specs(signature.inputs), "outputs": _specs(signature.outputs)}
        for name, signature in signatures.items()
    }
    card = {"allowed_batch_sizes": [1, 2], "signatures": specs, "checksums": sums}
    (version / "assets.extra").mkdir(exist_ok=True)
    (version / "assets.extra" / "model.json").write_text(json.dumps(card))
    with_inputs = [name for name, signature in signatures.items() if signature.inputs]
    write_warmup(version, [sample_record(name, rows) for name in with_inputs for rows in (1, 2)])


def _specs(infos):
    return {
        name: {
            "dtype": tf.as_dtype(info.dtype).name,
            "shape": [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim],
        }
        for name, info in infos.items()
    }


def build(version):
    """Writes the good model to a version folder, with the server's files beside it."""
    module = _Good()
    tf.saved_model.save(module, str(version), signatures={"serving_default": module.sample, "sample": module.sample})
    complete(version)
    inputs = {"seed": np.array([3, 4]), "temperature": np.array([1, 0.5], np.float32)}
    answer = {name: value.numpy() for name, value in module.sample(**inputs).items()}
    write_npz(version / "assets.extra" / "golden.npz", {"sample": (inputs, answer)})
    configs = {"batching_parameters.txt": _BATCHING, "models.config": _MODELS, "monitoring.config": _MONITORING}
    for name, text in configs.items():
        (version.parent / name).write_text(text)


def edit_graph(version, edit):
    """Writes a version's protobuf again after `edit` was called with its MetaGraphDef."""
    content = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    edit(content.meta_graphs[0])
    (version / "saved_model.pb").write_bytes(content.SerializeToString())


def failed_rules(version, execute=False, **options):
    """{name: detail} of the rules that a version breaks."""
    results = lint_saved_model(version, execute=execute, **options)
    return {result.name: result.detail for result in results if not result.passed}


def assert_breaks(version, rule, words):
    """Checks that a version breaks this rule and no other, and that the finding contains the words."""
    failed = failed_rules(version)
    assert list(failed) == [rule]
    assert words in failed[rule]


def replace_text(name, old, new):
    """Function of a version folder that changes a text in one of its files."""

    def edit(version):
        path = version / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


def change_card(**fields):
    """Function of a version folder that changes fields of its model card."""

    def edit(version):
        path = version / "assets.extra" / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit
