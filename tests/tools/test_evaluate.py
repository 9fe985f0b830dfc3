import json
import math
import sys

import numpy as np
import pytest

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.runs.data import load_images
from nvae_tf.runs.load import load_folded


def test_an_interrupted_evaluation_is_resumed(digits_run, tmp_path, program, monkeypatch, capsys):
    out, partial = tmp_path / "result.json", tmp_path / "result.partial.npz"
    flags = (f"--run_dir={digits_run}", f"--out={out}", "--num_samples=3", "--batch_size=4", "--max_images=10")
    tool = program("evaluate", *flags)
    monkeypatch.setattr(tool, "_SAVE_SECONDS", 0.0)
    with monkeypatch.context() as interrupting:
        interrupting.setattr(tool, "Progress", lambda total: lambda done: done < 8 or sys.exit(9))
        with pytest.raises(SystemExit):
            tool.main()
    with np.load(partial) as file:
        settings = json.loads(str(file["settings"]))
    assert tool.load_scores(partial, settings)[1] == 2
    assert tool.load_scores(partial, {**settings, "samples": 4}) == (None, 0)
    monkeypatch.setattr(tool, "new_file", lambda path: open("/"))  # as if the disk were full now: an OSError
    tool.main()
    printed, errors = capsys.readouterr()
    assert "result.partial.npz: not written: [Errno 21]" in errors
    assert "resuming after 8 images" in printed and not partial.exists()
    values = json.loads(out.read_text())
    model = load_folded(digits_run)
    images = load_images(model.config, None, "test", 10)
    expected = evaluate(model, eval_batches(images, model.config.data, 8, 5, 0), num_samples=3)
    assert values["num_images"] == 10 and values["num_samples"] == 3 and values["step"] == 3
    assert values["dataset"] == "digits" and values["split"] == "test"
    assert values["nll_bound"] == pytest.approx(expected.nll_bound, rel=1e-5)
    assert values["nelbo"] == pytest.approx(expected.nelbo, rel=1e-5)
    assert values["nelbo_bits_per_dim"] == pytest.approx(values["nelbo"] / (256 * math.log(2)))
    assert f"{values['nelbo']:.4f}" in printed and f"{values['kl_per_group'][1]:.4f}" in printed
