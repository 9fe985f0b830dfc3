import json

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.export.saved_model import export as saved_model
from nvae_tf.export.saved_model.against_keras import keras_parity
from nvae_tf.export.saved_model.check.lint import RuleResult
from nvae_tf.export.saved_model.export import export_saved_model, publish
from nvae_tf.golden_answers import read_npz
from nvae_tf.runs.load import load_folded, load_run
from tests.export.tiny_export import TEMPERATURE

_CARD = {"parity": None}


@pytest.fixture(scope="module")
def nvae(tiny_run_dir):
    return load_run(tiny_run_dir)


@pytest.fixture
def written(monkeypatch):
    """Replaces the slow parts: versions have one file, and checks give the list in {"results": list}."""
    outcome = {"results": [RuleResult("no_xla", "the server has XLA compilation disabled", "passed")]}

    def write(nvae, folder, *arguments):
        (folder / "saved_model.pb").write_text(folder.name)
        return _CARD

    monkeypatch.setattr(saved_model, "_write", write)
    monkeypatch.setattr(saved_model, "lint_saved_model", lambda folder, published: outcome["results"])
    return outcome


def _export(base, **options):
    return export_saved_model(None, base, {}, report=lambda text: None, **options)


def _versions(base):
    return {path.name for path in base.iterdir() if path.is_dir()}


def test_loads_without_the_project_and_draws_what_sample_py_draws(tiny_base, tiny_run_dir):
    served = tf.saved_model.load(str(tiny_base / "1")).signatures["serving_default"]
    seeds = tf.constant([5, 9], tf.int64)
    images = served(seed=seeds, temperature=tf.fill([2], TEMPERATURE))["image"].numpy()
    model = load_folded(tiny_run_dir)
    expected = np.concatenate([sample_images(model, 1, TEMPERATURE, int(seed)) for seed in seeds])
    # A value between two levels may fall to either side.
    np.testing.assert_allclose(images, 255 * expected, atol=0.51)


def test_the_published_version_is_whole_and_holds_its_parity(tiny_base):
    assert _versions(tiny_base) == {"1"}
    extra = tiny_base / "1" / "assets.extra"
    card = json.loads((extra / "model.json").read_text())
    [entry] = json.loads((extra / "parity.json").read_text())["files"]
    assert set(entry["outputs"]) == {"likelihood_params", "kl_per_group", "nelbo"}
    assert entry["outputs"] == card["parity"]["outputs"]
    assert card["parity"]["pixels_that_differ"] <= 1 / 72
    assert entry["bytes"] > (tiny_base / "1" / "saved_model.pb").stat().st_size
    assert {path.name for path in extra.iterdir()} == {
        "golden.npz", "model.json", "parity.json", "tf_serving_warmup_requests",
    }  # fmt: skip


@pytest.mark.parametrize(
    "signature, output, change",
    [
        ("decode", "likelihood_params", lambda value: value * 1.001),
        ("score", "kl_per_group", lambda value: value * 1.001),
        ("score", "nelbo", lambda value: value * 1.001),
        ("score", "nelbo", lambda value: value * np.nan),
        ("sample", "image", lambda value: value + 1),
    ],
    ids=["likelihood_params", "kl_per_group", "nelbo", "nan", "image"],
)
def test_answers_that_differ_from_keras_are_refused(tiny_base, nvae, signature, output, change):
    answers = read_npz(tiny_base / "1" / "assets.extra" / "golden.npz")
    answers[signature][1][output] = change(answers[signature][1][output])
    with pytest.raises(ValueError, match=f"^{output}: expected"):
        keras_parity(nvae, answers, binarize=True, pixels="mean")


def test_a_version_gets_the_number_after_the_newest(written, tmp_path):
    killed = tmp_path / "tmp_0123abcd_version"
    for name in ("2", "010", "latest", "tmp_12", killed.name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").touch()
    assert _export(tmp_path) == (tmp_path / "11", _CARD)
    assert _export(tmp_path) == (tmp_path / "12", _CARD)
    assert _versions(tmp_path) == {"2", "010", "latest", "tmp_12", "11", "12"}
    assert all((tmp_path / name / "kept").exists() for name in ("2", "010", "latest", "tmp_12"))
    assert not killed.exists()


def test_an_export_leaves_another_that_is_running_alone(written, tmp_path, monkeypatch):
    def meanwhile(folder, published):
        monkeypatch.setattr(saved_model, "lint_saved_model", lambda folder, published: written["results"])
        assert _export(tmp_path)[0] == tmp_path / "1"
        return written["results"]

    monkeypatch.setattr(saved_model, "lint_saved_model", meanwhile)
    assert _export(tmp_path)[0] == tmp_path / "2"
    first, second = ((tmp_path / version / "saved_model.pb").read_text() for version in "12")
    assert first != second and _versions(tmp_path) == {"1", "2"}


def test_everything_is_on_disk_before_the_version_gets_its_name(tmp_path, monkeypatch):
    synced, folder = [], tmp_path / "tmp_a"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").touch()
    monkeypatch.setattr(saved_model.files, "sync", synced.append)
    publish(folder)
    assert set(synced[:-1]) == {folder, folder / "variables", folder / "variables" / "data"}
    assert synced[-1] == tmp_path


def test_a_number_that_another_took_in_between_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "tmp_a").mkdir()
    (tmp_path / "tmp_a" / "saved_model.pb").write_text("mine")
    rename = saved_model.os.rename

    def late(source, target):
        monkeypatch.setattr(saved_model.os, "rename", rename)
        target.mkdir()
        (target / "saved_model.pb").write_text("theirs")
        rename(source, target)

    monkeypatch.setattr(saved_model.os, "rename", late)
    assert publish(tmp_path / "tmp_a") == tmp_path / "2"
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "theirs"
    assert (tmp_path / "2" / "saved_model.pb").read_text() == "mine"


def test_an_export_that_fails_a_check_is_not_published(written, tmp_path):
    written["results"].append(
        RuleResult("serve_tag", "the server loads this graph", "failed", "expected the tag serve")
    )
    with pytest.raises(ValueError) as error:
        _export(tmp_path)
    # There is no file that would bind the next export to this one's sizes.
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("tmp_") and (folder / "saved_model.pb").exists()
    assert str(error.value).startswith(f"{folder}: expected an export that passes every check.")
    assert str(error.value).endswith("\n  serve_tag: expected the tag serve (the server loads this graph)")
    written["results"].pop()
    assert _export(tmp_path, batch_sizes=(3,))[0] == tmp_path / "1"
    assert _versions(tmp_path) == {"1"}
    with pytest.raises(ValueError, match=r"batch_sizes: expected \[3\], as in"):
        _export(tmp_path)


def test_an_interruption_leaves_no_folder(written, tmp_path, monkeypatch):
    def interrupted(folder, published):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, "lint_saved_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _export(tmp_path)
    assert _versions(tmp_path) == set()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "a/b"}, "name: expected lower-case"),
        ({"temperature": 0.0}, "temperature: expected a positive, finite number. Received: 0.0"),
        ({"temperature": float("nan")}, "temperature: expected a positive, finite number. Received: nan"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        _export(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
