"""Checks of a whole SavedModel: a good one, one that does not run, a typical faulty one, and other folders."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.saved_model.check import lint as lint_module
from nvae_tf.export.saved_model.check.contents import find_version, read_saved_model
from nvae_tf.export.saved_model.check.lint import RULES, lint_saved_model
from nvae_tf.golden_answers import read_npz, write_npz
from tests.export.saved_model.check.good_saved_model import (
    edit_graph,
    failed_rules,
    record,
    sample_record,
    write_warmup,
)


def test_good_passes(good):
    results = lint_saved_model(good)
    assert results[-1].detail.startswith("loaded in ")
    assert {result.name: result.status for result in results} == {
        **{name: "passed" for name in [*(rule.__name__ for rule in RULES), "executes"]},
        "models_config": "warned",  # it has a label
    }
    assert all(result.reason.endswith(".") for result in results)


def test_executes(version):
    """A request that the graph refuses and an answer that is not the golden one; the wrong card hides neither."""
    (version / "assets.extra" / "model.json").write_text("{}")
    good = [sample_record(name, rows) for name in ("sample", "serving_default") for rows in (1, 2)]
    write_warmup(version, [*good, sample_record("sample", 1, temperature=0.0)])
    path = version / "assets.extra" / "golden.npz"
    answers = read_npz(path)
    answers["sample"][1]["image"] ^= 1
    write_npz(path, answers)
    failed = failed_rules(version, execute=True)
    assert list(failed) == ["checksums", "executes"]
    assert "record 4, signature sample: " in failed["executes"]
    assert "temperature: expected positive values" in failed["executes"]
    assert "golden.npz, signature sample: image: 100.00% of the values differ" in failed["executes"]
    assert "png_bytes" not in failed["executes"]


class _Bad(tf.Module):
    """What people save: XLA, Python, noise without a seed per row, batch norm that trains, mixed precision."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)
        self.dense = keras.layers.Dense(4, dtype="mixed_float16")
        self.dense.build([None, 1])
        self.kept = [variable.value for variable in (self.seeds.state, *self.dense.variables)]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def call(self, x):
        noise = tf.random.normal(tf.shape(x)) + keras.random.normal(tf.shape(x), seed=self.seeds)
        image = tf.reshape(x + noise + tf.cast(self.dense(x[:, None])[:, 0], tf.float32), [-1, 2, 2, 1])
        image, _, _ = tf.compat.v1.nn.fused_batch_norm(image, [1.0], [0.0], is_training=True)
        return tf.numpy_function(np.sin, [tf.reshape(image, [-1]) + _compiled(x)], tf.float32)


@tf.function(jit_compile=True)
def _compiled(x):
    return x * 2


def test_what_tensorflow_writes(tmp_path):
    """The rules know the operations by the names that TensorFlow writes; the runtime refuses XLA as the server does."""
    module, version = _Bad(), tmp_path / "3"
    tf.saved_model.save(module, str(version), signatures=module.call.get_concrete_function())
    results = {result.name: result for result in lint_saved_model(version)}
    assert {name for name, result in results.items() if not result.passed} == {
        "no_state", "no_xla", "no_training", "no_half", "batch_first", "warm_up",
    }  # fmt: skip
    for operation in ("RandomStandardNormal", "PyFunc", "AssignVariableOp"):
        assert operation in results["no_state"].detail
    assert results["checksums"].status == results["models_config"].status == "not checked"

    (version / "assets.extra").mkdir()
    write_warmup(version, [record("", x=np.ones(4, np.float32))])
    findings, _ = lint_module.executes(read_saved_model(version))
    assert "XLA compilation disabled" in findings[0]


def test_base_path(version):
    """The newest version by number, not by name."""
    for name in ("9", "10", "tmp_11"):
        shutil.copytree(version, version.with_name(name))
    assert find_version(version.parent) == version.with_name("10")
    assert find_version(version) == version


def _other_tags(path):
    edit_graph(path.parent, lambda graph: graph.meta_info_def.tags.append("gpu"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda path: path.write_bytes(b"\x12\xff\xff\xff\x0f not a protobuf"),
            "expected the protobuf of a SavedModel",
        ),
        (lambda path: path.write_bytes(b""), "whose only tag is serve. Received: no graph"),
        (_other_tags, r"whose only tag is serve. Received: \[\['serve', 'gpu'\]\]"),
        (lambda path: path.unlink(), "expected the protobuf of a SavedModel"),
    ],
    ids=["damaged", "empty", "other tags", "missing"],
)
def test_not_a_saved_model(version, damage, words):
    damage(version / "saved_model.pb")
    with pytest.raises(ValueError, match=words):
        lint_saved_model(version)


def test_no_version(tmp_path):
    (tmp_path / "nvae").mkdir()
    for path, words in ((tmp_path, r"\['nvae'\]"), (tmp_path / "no", "no such folder"), (__file__, "no such folder")):
        with pytest.raises(ValueError, match=f"expected a folder with saved_model.pb.*Received: {words}"):
            find_version(path)
