"""tools/compare.py compares two tiny runs of different families, and refuses what does not compare."""

import json
import re

import pytest
import tensorflow as tf
from absl import app

from nvae_tf.baselines.iaf_vae import IAFVAE
from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, DataConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig

_EVALUATION = {
    **{"dataset": "digits", "split": "test", "step": 3, "seed": 0, "ema": False, "bit_depth": 8, "run_images": None},
    **{"num_samples": 2, "num_images": 30, "nelbo": 200.25, "nelbo_standard_error": 1.5},
    **{"nll_bound": 190.5, "nll_bound_standard_error": 1.25},
}


@pytest.fixture(scope="module")
def iaf_run(tmp_path_factory):
    """Run folder of a tiny IAF-VAE of the digits, with a log of its training. Shared: tests must not change it."""
    sizes = {"num_levels": 2, "layers_per_level": 2, "channels": 4, "latent_channels": 2}
    model = IAFVAE(IAFVAEConfig("iaf_vae", 16, 16, 1, "bernoulli", **sizes), name="iaf_vae")
    config = Config(model=model.model_config, data=DataConfig(dataset="digits", binarize=True))
    run = RunFolder(tmp_path_factory.mktemp("iaf_run")).create(config)
    run.save(7, {"model": model_variables(model)})
    writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))
    for step, rate in ((5, 0.0), (6, 250.5), (7, 1250.5)):
        with writer.as_default(step):
            tf.summary.scalar("train/images_per_second", rate)
            tf.summary.scalar("train/loss", 300.0 - step)
    writer.close()
    return run.path


def _cells(line):
    return re.split(r"\s{2,}", line.strip())


def test_two_families_side_by_side(program, digits_run, iaf_run, tmp_path, capsys, monkeypatch):
    # What has been evaluated already is not evaluated again.
    nvae_run = tmp_path / "nvae_run"
    nvae_run.symlink_to(digits_run)
    monkeypatch.setattr(
        "nvae_tf.checkpoint.figures.read_evaluation", lambda run, model: _EVALUATION if run == str(nvae_run) else None
    )
    path = tmp_path / "out.html"
    program("compare", "--num_samples=2", "--max_images=30", f"--out={path}").main([str(nvae_run), str(iaf_run)])
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0]: cells[1:] for cells in map(_cells, lines) if len(cells) > 1}
    assert rows["Family"] == ["nvae", "iaf_vae"] and rows["Step"] == ["3", "7"]
    assert rows["Objective, last logged, nats"] == ["–", "293.00"]
    assert rows["NELBO, nats"][0] == "200.25 ± 1.50" and rows["NELBO, bits/dim"][0] == "1.1285"
    bound, nelbo = (rows[name][1] for name in ("−log p(x), bound with K = 2, nats", "NELBO, nats"))
    assert float(bound.split(" ± ")[0]) < float(nelbo.split(" ± ")[0])
    assert rows["Latents, level 0 (coarsest)"] == ["1 of 4 × 4 × 2", "2 of 4 × 4 × 2"]
    assert rows["Latents, values in all"] == ["288", "320"]
    assert rows["Training, images/s"] == ["–", "750.5"]
    assert all(float(seconds) < 60 for seconds in rows["Seconds to draw 64"])
    page = path.read_text()
    assert page.count('src="data:image/png;base64,') == 4 and not re.search("https?:|<script", page)
    assert "750.5" in page and "200.25 ± 1.50" in page and "Not comparable" not in page


def test_one_run_and_folders_that_are_none_are_refused(program, digits_run, tmp_path):
    tool = program("compare")
    for words in ([str(digits_run)], [str(digits_run), str(tmp_path)]):
        with pytest.raises(app.UsageError, match="expected at least two run folders with config.json. Received: "):
            tool.main(words)


def test_other_images_are_refused_before_any_work(program, digits_run, iaf_run, tmp_path):
    other = tmp_path / "other"
    RunFolder(other).create(RunFolder(iaf_run).config)
    (other / "checkpoints" / "step_00000007").symlink_to(iaf_run / "checkpoints" / "step_00000007")
    values = json.loads((other / "config.json").read_text())
    values["data"]["test_fraction"] = 0.2
    (other / "config.json").write_text(json.dumps(values))
    expected = f"{other}: test_fraction: expected 0.1, as in {digits_run}. Received: 0.2"
    with pytest.raises(ValueError, match=re.escape(expected)):
        program("compare").main([str(digits_run), str(other)])
