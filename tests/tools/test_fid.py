import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, DataConfig, ModelConfig
from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.fid.distances import compare
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.load import load_run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_DIM = 16


# Several runs of the program in one process, since TensorFlow takes seconds to start; a line ends the texts of each.
_RUNS = """
import json, sys
from tools import fid
for flags in json.loads(sys.argv[1]):
    for name in fid.FLAGS:
        fid.FLAGS[name].unparse()
    code = 0
    try:
        fid.main(fid.FLAGS(["fid.py", *flags]))
    except SystemExit as error:
        print(error.code, file=sys.stderr)
        code = 1
    try:
        values = open(fid.FLAGS.run_dir + "/fid.json").read()
    except FileNotFoundError:
        values = "null"
    print(json.dumps([code, json.loads(values)]) + "END", flush=True)
    print("END", file=sys.stderr, flush=True)
"""


def _run(*arguments):
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tools'}"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def _fid(*flags):
    return _run(str(REPOSITORY / "tools" / "fid.py"), *flags)


def _fid_runs(*runs):
    """[(exit code, fid.json, standard output, standard error)] of runs with these flags, one after the other."""
    done = _run("-c", _RUNS, json.dumps(runs))
    assert done.returncode == 0, done.stderr
    results = []
    for output, errors in zip(done.stdout.split("END\n")[:-1], done.stderr.split("END\n")[:-1], strict=True):
        *lines, last = output.splitlines()
        code, values = json.loads(last)
        results.append((code, values, "\n".join(lines), errors))
    assert len(results) == len(runs)
    return results


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run folder of a tiny model of the digits."""
    model = ModelConfig(
        image_height=16,
        image_width=16,
        num_scales=1,
        groups_per_scale=2,
        latent_channels=2,
        encoder_channels=2,
        decoder_channels=2,
        preprocess_blocks=1,
        preprocess_cells=1,
        postprocess_blocks=1,
        postprocess_cells=1,
        encoder_cells_per_group=1,
        decoder_cells_per_group=1,
    )
    config = Config(model=model, data=DataConfig(dataset="digits", binarize=True))
    folder = RunFolder(tmp_path_factory.mktemp("run")).create(config)
    folder.save(3, {"model": model_variables(NVAE(model))})
    return folder.path


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
    from nvae_tf.runs.data import load_images

    model = load_run(run_dir)
    images = load_images(model.config, None, "train")
    data = _features(np.concatenate(list(eval_batches(images, model.config.data, 8, 500, seed).as_numpy_iterator())))
    samples = _features(sample_images(model, num, 0.7, seed))
    moments = [(features.mean(axis=0), np.cov(features, rowvar=False)) for features in (samples, data)]
    return compare(*moments, samples, data, seed=seed)


def test_writes_the_figures_and_keeps_the_features(run_dir, graph_file, tmp_path):
    saved, cache = tmp_path / "digits.npz", tmp_path / "cache"
    flags = [f"--run_dir={run_dir}", f"--inception={graph_file}", "--num_samples=50", "--temperature=0.7", "--seed=2"]
    (code, values, output, errors), again, alone = _fid_runs(
        [*flags, "--batch_size=20", f"--cache_dir={cache}", f"--save_statistics={saved}"],
        [*flags, "--batch_size=33", f"--cache_dir={cache}"],
        [*flags, f"--statistics={saved}", "--data_dir=."],
    )
    assert code == 0, errors
    for name, expected in _expected(run_dir, 50, 2).items():
        # KID's subsets are drawn from all features of both: as many as there are, in their order.
        assert values[name] == pytest.approx(expected, rel=1e-3, abs=1e-5), name
        assert f"{name:<12}{values[name]:>14.6g}" in output
    assert values["fid"] > 0 and values["num_samples"] == 50 and values["num_data_images"] > 1000
    assert values["temperature"] == [0.7, 0.7] and values["seed"] == 2 and values["step"] == 3
    assert values["dataset"] == "digits" and values["split"] == "train" and values["statistics"] is None
    assert values["inception"] == "graph.pb" and len(values["inception_sha256"]) == 64 and not values["ema"]
    assert values["num_features"] == _DIM and values["resizing"].startswith("ResizeBilinear to [12, 12], align")
    assert "50/50 images" in errors and "warning" not in errors

    # The same images in other batches: their features are there.
    (kept,) = cache.iterdir()
    assert again[0] == 0 and f"features of the data set: {kept}" in again[2], again
    figures = {"fid", "kid", "kid_std"}
    assert {name: value for name, value in again[1].items() if name not in figures} == {
        name: value for name, value in values.items() if name not in figures
    }
    assert [again[1][name] for name in figures] == pytest.approx([values[name] for name in figures], rel=1e-3)

    # The statistics alone give FID alone.
    assert alone[0] == 0, alone
    assert alone[1]["fid"] == pytest.approx(values["fid"], rel=1e-3) and alone[1]["statistics"] == str(saved)
    assert all(alone[1][name] is None for name in ("kid", "precision", "split", "num_data_images"))
    assert not list(run_dir.glob("*.tmp")) + list(tmp_path.rglob("*.tmp")) and not (run_dir / "fid_cache").exists()

    # Damaged features are computed anew; wrong files are told without a traceback, before any work.
    kept.write_bytes(kept.read_bytes()[:100])
    other = tmp_path / "other.npz"
    np.savez(other, mu=np.zeros(2048), sigma=np.eye(2048, dtype=np.float32))
    repaired, few, wrong_statistics, wrong_graph = _fid_runs(
        [*flags, f"--cache_dir={cache}"],
        [*flags, f"--statistics={saved}", "--num_samples=3"],
        [*flags, f"--statistics={other}"],
        [*flags, "--inception_output=pool:0"],
    )
    assert repaired[0] == 0 and f"computed anew: {kept}: expected an .npz file" in repaired[3], repaired
    assert repaired[1]["fid"] == pytest.approx(values["fid"], rel=1e-3)
    assert few[0] == 0 and "warning: 3 sampled images for 16 features: the covariance is singular" in few[3]
    for (code, _, _, errors), message in (
        (wrong_statistics, f"{other}: expected mu [16] and sigma [16, 16], as the Inception file gives 16 features"),
        (wrong_graph, f"{graph_file}: expected a node pool for the tensor pool:0"),
    ):
        assert code == 1 and f"fid.py: {message}" in errors, errors


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--run_dir=nowhere", "--run_dir=nowhere: expected a run folder with config.json"),
        ("--data_dir=nowhere", "--data_dir=nowhere: expected an existing folder"),
        ("--temperature=0", "expected a positive, finite number"),
        ("--num_samples=1", "--num_samples=1"),
        ("--max_features=1", "--max_features=1"),
        ("--save_statistics=a.npy", "--save_statistics=a.npy: expected a name ending in .npz in an existing folder"),
        ("--inception=nowhere.pb", "--inception=nowhere.pb: expected an existing file. FID and KID are defined by"),
    ],
)
def test_wrong_flags_are_named(run_dir, flag, message):
    done = _fid(f"--run_dir={run_dir}", f"--inception={__file__}", flag)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


def test_without_a_graph_it_says_what_to_get(run_dir):
    done = _fid(f"--run_dir={run_dir}")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "--inception=None: expected an existing file" in done.stderr and "inception-2015-12-05.tgz" in done.stderr
    assert "classify_image_graph_def.pb" in done.stderr and "download.tensorflow.org" in done.stderr
