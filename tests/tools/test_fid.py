import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.fid.distances import compare_features
from nvae_tf.evaluation.fid.features import Features
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.runs.data import load_images
from nvae_tf.runs.load import load_folded

_DIM = 16


def _weights():
    return np.random.default_rng(0).normal(size=(12 * 12 * 3, _DIM)).astype(np.float32) / 400


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    """Frozen graph with the names of the reference: images of 12 x 12, rectified, times a matrix."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3], name="ExpandDims")
        resized = tf.raw_ops.ResizeBilinear(images=images, size=[12, 12], name="ResizeBilinear")
        features = tf.nn.relu(tf.reshape(resized, [-1, 432]) @ _weights())
        tf.reshape(features, [-1, 1, 1, _DIM], name="pool_3")
    path = tmp_path_factory.mktemp("graph") / "graph.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def _features(images):
    """The same of images [B, 16, 16, 1] in [0, 1]."""
    images = np.rint(np.repeat(images, 3, axis=3) * 255).astype(np.float32)
    resized = tf.raw_ops.ResizeBilinear(images=images, size=[12, 12])
    return np.maximum(tf.reshape(resized, [-1, 432]).numpy() @ _weights(), 0)


def _expected(run_dir, num, seed):
    """Figures of samples at temperature 0.7 and the training digits, from all features at once."""
    model = load_folded(run_dir)
    images = load_images(model.config, None, "train")
    data = _features(np.concatenate(list(eval_batches(images, model.config.data, 8, 500, seed).as_numpy_iterator())))
    samples = _features(sample_images(model, num, 0.7, seed))
    moments = [(len(part), part.mean(axis=0), np.cov(part, rowvar=False)) for part in (samples, data)]
    return compare_features(Features(*moments[0], samples), Features(*moments[1], data), seed)


@pytest.fixture
def fid(program, digits_run, graph_file, tmp_path, capsys):
    """Function that runs the program with these flags: (fid.json, standard output, standard error)."""
    run_dir = shutil.copytree(digits_run, tmp_path / "run")
    common = [f"--run_dir={run_dir}", f"--inception={graph_file}", "--num_samples=50", "--temperature=0.7", "--seed=2"]

    def run(*flags):
        program("fid", *common, *flags).main()
        return json.loads((run_dir / "fid.json").read_text()), *capsys.readouterr()

    return run


def test_writes_the_figures_and_keeps_the_features(fid, digits_run, tmp_path):
    saved, cache = tmp_path / "digits.npz", tmp_path / "cache"
    values, output, errors = fid("--batch_size=20", f"--features_dir={cache}", f"--save_statistics={saved}")
    for name, expected in _expected(digits_run, 50, 2).items():
        # KID's subsets are drawn from all features of both sets: as many as there are, in their order.
        assert values[name] == pytest.approx(expected, rel=1e-3, abs=1e-5), name
        assert f"{name:<12}{values[name]:>14.6g}" in output
    assert values["fid"] > 0 and values["num_samples"] == 50 and values["num_data_images"] > 1000
    assert values["temperature"] == [0.7, 0.7, 0.7] and values["seed"] == 2 and values["step"] == 3
    assert values["dataset"] == "digits" and values["split"] == "train" and values["statistics"] is None
    assert values["inception"] == "graph.pb" and len(values["inception_sha256"]) == 64 and not values["ema"]
    assert values["num_features"] == _DIM and values["resizing"].startswith("ResizeBilinear to [12, 12], align")
    assert "50/50 images" in errors and "covariance" not in errors

    # The same images in other batches: their features are in the cache.
    (kept,) = cache.iterdir()
    again, output, _ = fid("--batch_size=33", f"--features_dir={cache}")
    assert f"features of the data set: {kept}" in output and set(again) == set(values)
    for name, value in values.items():
        assert again[name] == (pytest.approx(value, rel=1e-3) if name in ("fid", "kid", "kid_std") else value), name

    # The statistics give the FID only.
    alone, _, errors = fid(f"--statistics={saved}", "--num_samples=3")
    assert alone["fid"] > 0 and alone["statistics"] == str(saved)
    assert all(alone[name] is None for name in ("kid", "precision", "split", "num_data_images"))
    assert "warning: 3 sampled images for 16 features: the covariance is singular" in errors


def test_wrong_files_are_named_before_any_work(fid, graph_file, tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.load_folded", None)
    other = tmp_path / "other.npz"
    np.savez(other, mu=np.zeros(2048), sigma=np.eye(2048, dtype=np.float32))
    with pytest.raises(ValueError, match=r"other.npz: expected mu \[16\] and sigma \[16, 16\], because the Inception"):
        fid(f"--statistics={other}")
    splits = {"train": {"num_images": 9, "fingerprint": "0", "files": ""}}
    (tmp_path / "run" / "data.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(ValueError, match="expected the 9 train images of .* Received: 1437; --accept_changed_data"):
        fid()
