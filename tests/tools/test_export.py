import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl.flags import FLAGS, Error

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.checkpoint.figures import read_evaluation
from nvae_tf.checkpoint.statistics import save_statistics
from nvae_tf.evaluation.readjust import statistics_variables
from nvae_tf.export import onnx
from nvae_tf.export.saved_model import export as saved_model
from nvae_tf.export.saved_model.check.lint import RuleResult
from nvae_tf.export.tflite import export as tflite
from nvae_tf.runs.load import load_run
from tests.conftest import REPOSITORY


def _fails(export):
    with pytest.raises((ValueError, ImportError)) as error:
        export.main()
    return str(error.value)


def test_saved_model(program, digits_run, tmp_path, capsys, monkeypatch):
    # The checks are tested separately, and tests/export runs them on an export.
    checks = [RuleResult("executes", "", "passed", "loaded in 2.0 s, warmed up in 9.0 s")]
    monkeypatch.setattr(saved_model, "lint_saved_model", lambda folder, published: checks)
    base = tmp_path / "models" / "digits"
    flags = (f"--run_dir={digits_run}", f"--out={base}", "--name=digits", "--batch_sizes=1,3", "--temperature=0.7")
    export = program("export", "--format=saved_model", "--pixels=sample", *flags)
    export.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"written: {base / '1'}"
    assert any(line.startswith("parity with Keras: likelihood_params ") and "relative" in line for line in lines)
    assert any(line.endswith("checks: 1 passed; loaded in 2.0 s, warmed up in 9.0 s") for line in lines)
    assert "weight norm evaluated" in "\n".join(lines)
    assert any(line.startswith("model card: no likelihood") for line in lines)
    assert {path.name for path in base.iterdir()} >= {"1", "models.config", "serve.sh"}
    card = json.loads((base / "1" / "assets.extra" / "model.json").read_text())
    assert (card["name"], card["allowed_batch_sizes"], card["temperature"]) == ("digits", [1, 3], 0.7)
    assert (card["pixels"], card["run"]["step"], card["run"]["batch_norm_temperature"]) == ("sample", 3, None)

    FLAGS.batch_sizes = ["1", "2"]
    message = _fails(export)
    assert message.startswith("batch_sizes: expected [1, 3], as in ") and not (base / "2").exists()


@pytest.mark.parametrize(
    "module, flags, options",
    [
        (tflite, ("--num_groups=2", "--encoder"), {"num_groups": 2, "encoder": True, "temperature": 1.0}),
        (onnx, ("--opset=17", "--temperature=0.6"), {"opset": 17, "temperature": 0.6}),
    ],
    ids=["tflite", "onnx"],
)
def test_files_for_devices(program, digits_run, tmp_path, capsys, monkeypatch, request, module, flags, options):
    kind = request.node.callspec.id
    received = {}

    def write(nvae, out, origin, **options):
        received.update(options, out=out, step=origin["run"]["step"])
        outputs = {"kl": {"relative": 3e-7}, "noise_00": {"relative": 1e-7}, "noise_01": {"relative": 2e-7}}
        entry = {"file": "decoder.x", "bytes": 2e6, "runtime": "r", "seconds": 0.01, "outputs": outputs}
        out.mkdir()
        (out / "parity.json").write_text(json.dumps({"files": [entry]}))

    monkeypatch.setattr(module, f"export_{kind}", write)
    program("export", f"--format={kind}", f"--run_dir={digits_run}", f"--out={tmp_path / 'new'}", *flags).main()
    assert received == {**options, "out": tmp_path / "new", "step": 3}
    assert capsys.readouterr().out.splitlines() == [
        "parity of decoder.x (2.0 MB, 10.00 ms with r) with Keras: kl 3.0e-07 relative, noise 2.0e-07 relative",
        f"written: {tmp_path / 'new' / 'parity.json'}",
    ]


@pytest.mark.parametrize(
    ("kind", "there"),
    [
        ("saved_model", ["tmp_0123abcd_version", "lost+found"]),  # a killed first export
        ("saved_model", ["compose.yaml"]),  # killed while it wrote the server's files
        ("tflite", []),
        ("onnx", ["lost+found"]),
    ],
)
def test_vacant_folders_are_taken(program, digits_run, tmp_path, kind, there):
    for name in there:
        (tmp_path / name).mkdir()
    program("export", f"--format={kind}", f"--run_dir={digits_run}", f"--out={tmp_path}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format=tflite", "--num_groups=9"), "num_groups: expected 1 to 3. Received: 9"),
        (("--format=saved_model", "--name=A"), "name: expected lower-case letters, digits and -, a letter first"),
        (("--format=saved_model", "--batch_sizes=2,1"), "batch_sizes: expected ascending numbers"),
    ],
)
def test_what_does_not_fit_is_named_before_the_model_is_loaded(
    program, digits_run, tmp_path, monkeypatch, flags, message
):
    monkeypatch.setattr("nvae_tf.runs.load.load_run", None)
    assert message in _fails(program("export", f"--run_dir={digits_run}", f"--out={tmp_path / 'new'}", *flags))


def test_weights_are_a_run_folder(program, digits_run, tmp_path, monkeypatch):
    run_dir, averaged = shutil.copytree(digits_run, tmp_path / "run"), load_run(digits_run)
    parts = {"model": model_variables(load_run(digits_run)), "optimizer": {"rate": tf.Variable(1.0)}}
    for variable in averaged.trainable_variables:
        variable.assign(variable + 1.0)
    parts["ema"] = {name: value for name, value in model_variables(averaged).items() if value.trainable}
    checkpoint = RunFolder(run_dir).save(5, parts)
    save_statistics(checkpoint, 0.7, True, {name: v.numpy() + 2 for name, v in statistics_variables(averaged).items()})
    (run_dir / "metrics.jsonl").write_text("{}")
    (run_dir / "evaluation.json").write_text('{"step": 5, "ema": true, "nelbo": 90.5}')
    monkeypatch.chdir(tmp_path)
    program("export", "--format=weights", f"--run_dir={run_dir}").main()
    out = tmp_path / "exported" / "run_weights"
    assert RunFolder(out).parts() == ["model"] and (out / "metrics.jsonl").read_text() == "{}"
    for options in ({}, {"batch_norm_temperature": 0.7}):
        expected, loaded = load_run(run_dir, **options), load_run(out, **options)
        assert expected.averaged and loaded.restored_step == 5
        for one, other in zip(expected.variables, loaded.variables, strict=True):
            np.testing.assert_array_equal(one, other)
    assert read_evaluation(out, loaded)["nelbo"] == read_evaluation(run_dir, expected)["nelbo"] == 90.5
    (run_dir / "evaluation.json").write_text('{"step": 3, "ema": true}')
    program("export", "--format=weights", f"--run_dir={run_dir}", "--out=other").main()
    assert not (tmp_path / "other" / "evaluation.json").exists()
    before = sorted(out.rglob("*"))
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(ValueError, match="--run_dir: expected a new folder, or a run with its optimiser. Received: "):
        program("train", "--config=configs/digits.py", f"--run_dir={out}").main()
    assert sorted(out.rglob("*")) == before


def test_missing_statistics_are_named(program, digits_run, tmp_path):
    flags = (f"--run_dir={digits_run}", f"--out={tmp_path / 'new'}", "--format=saved_model", "--bn_temperature=0.5")
    message = _fails(program("export", *flags))
    assert "of temperature 0.5 (made by tools/readjust_bn.py)" in message


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--format=torch",), "--format=torch: value should be one of"),
        (("--temperature=nan",), "--temperature=nan: expected a positive, finite number"),
        (("--batch_sizes=1,two",), "--batch_sizes=1,two: expected whole numbers"),
        (("--format=tflite", "--pixels=sample"), "expected --pixels only with --format=saved_model"),
        (("--format=saved_model", "--encoder"), "expected --encoder only with --format=tflite"),
        (("--format=tflite", "--opset=17"), "expected --opset only with --format=onnx"),
        (("--format=weights", "--bn_temperature=0.7"), "expected --bn_temperature only with --format=saved_model or"),
        (("--format=onnx", "--out=FOLDER"), "expected a new or empty folder"),
        (("--out=FOLDER/file",), "expected a new or empty folder or, for a SavedModel, one that has versions"),
        (("--out=FOLDER",), "expected a new or empty folder or, for a SavedModel, one that has versions"),
        (("--run_dir=FOLDER",), "expected a run folder with config.json"),
    ],
)
def test_wrong_flags_are_named(program, digits_run, tmp_path, flags, message):
    (tmp_path / "file").touch()
    defaults = ("--format=saved_model", f"--run_dir={digits_run}", f"--out={tmp_path / 'new'}")
    with pytest.raises(Error) as error:
        program("export", *defaults, *(flag.replace("FOLDER", str(tmp_path)) for flag in flags))
    assert message in str(error.value).replace("['1', 'two']", "1,two")
