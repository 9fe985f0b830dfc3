"""The exports of tools/quickstart.py, which resumes where it stopped."""

import shutil

from nvae_tf.export import onnx, summary
from nvae_tf.export.saved_model import export as saved_model
from nvae_tf.export.tflite import export as tflite
from tools import quickstart


def test_only_the_exports_that_are_not_finished_are_made(model, digits_run, tmp_path, monkeypatch, capsys):
    run_dir, made = shutil.copytree(digits_run, tmp_path / "run"), []
    for module, name in ((tflite, "export_tflite"), (onnx, "export_onnx"), (saved_model, "export_saved_model")):
        monkeypatch.setattr(module, name, lambda nvae, out, *origin, **options: made.append(out.name) or [])
    for name in ("show_files", "show_saved_model"):
        monkeypatch.setattr(summary, name, lambda *written: None)
    folder = run_dir / "exported" / "step_00000003"
    for path in (folder / "onnx", folder / "saved_model" / "tmp_0123abcd_version" / "assets.extra"):
        path.mkdir(parents=True)
        (path / "parity.json").touch()
    (folder / "saved_model" / "models.config").touch()
    quickstart.export(model, run_dir)
    assert made == ["tflite", "saved_model"]
    assert capsys.readouterr().out == f"exists already: {folder / 'onnx'}\n"
