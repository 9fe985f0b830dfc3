import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.data.batches import eval_batches
from nvae_tf.inference.groups import kl_per_group
from nvae_tf.models.noise import keyed_noise, row_keys
from nvae_tf.runs.data import load_images

SHAPES = [(4, 4, 2), (8, 8, 2), (8, 8, 2)]


def _images(model, num, seed=0):
    images = load_images(model.config, None, "test", num)
    return next(iter(eval_batches(images, model.config.data, 8, num, seed))).numpy()


def _read_records(path):
    """{name: array} of a .tfrecord, by TensorFlow's own reader."""
    features = {"index": tf.io.FixedLenFeature([], tf.int64), "kl_per_group": tf.io.FixedLenFeature([3], tf.float32)}
    for prefix in ("latents", "loc", "log_scale"):
        features |= {f"{prefix}_{g:02}": tf.io.FixedLenFeature(s, tf.float32) for g, s in enumerate(SHAPES)}
    records = tf.data.TFRecordDataset(str(path)).map(lambda record: tf.io.parse_single_example(record, features))
    return {name: values.numpy() for name, values in next(iter(records.batch(100))).items()}


def test_an_npz_has_the_latents_of_the_means(digits_run, model, program, tmp_path, capsys):
    out = tmp_path / "latents.npz"
    program("encode", f"--run_dir={digits_run}", f"--out={out}", "--max_images=7", "--batch_size=3").main()
    with np.load(out) as file:
        arrays = dict(file)
    assert sorted(arrays) == ["index", "latents_00", "latents_01", "latents_02"]
    np.testing.assert_array_equal(arrays["index"], np.arange(7))
    for group, terms in enumerate(model.infer(_images(model, 7))[1]):
        received, expected = arrays[f"latents_{group:02}"], terms.latent
        assert received.dtype == np.float32 and received.shape == (7, *SHAPES[group])
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)
    printed = capsys.readouterr()
    assert "7/7 images" in printed.err and f"written: {out}, 7 images, step 3" in printed.out
    assert os.listdir(tmp_path) == ["latents.npz"]


def test_records_have_what_the_npz_has(digits_run, model, program, tmp_path, capsys):
    flags = ("--max_images=5", "--what=latents,params,kl", "--draw=sample", "--seed=2")
    for name, batch_size in (("a.npz", 5), ("a.tfrecord", 2)):
        tool = program(
            "encode", f"--run_dir={digits_run}", *flags, f"--out={tmp_path / name}", f"--batch_size={batch_size}"
        )
        tool.main()
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    records = _read_records(tmp_path / "a.tfrecord")
    assert set(arrays) == set(records) and len(arrays) == 11
    for name, values in arrays.items():
        np.testing.assert_allclose(records[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    noise = keyed_noise(model.noise_shapes(5), row_keys(2, np.arange(5)))
    terms = model.infer(_images(model, 5, seed=2), noise)[1]
    np.testing.assert_allclose(arrays["kl_per_group"], kl_per_group(terms), rtol=1e-4, atol=1e-3)
    for group, latent in enumerate(one.latent for one in terms):
        np.testing.assert_allclose(arrays[f"latents_{group:02}"], latent, rtol=1e-4, atol=1e-4)
        z = arrays[f"loc_{group:02}"] + np.exp(arrays[f"log_scale_{group:02}"]) * noise[group]
        np.testing.assert_allclose(z, latent, rtol=1e-4, atol=1e-4)
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.tfrecord"]


def test_a_damaged_image_is_left_out(digits_run, program, tmp_path, monkeypatch):
    def damaged(*arguments):
        return dataclasses.replace(load_images(*arguments), damaged=np.array([1]))

    out = tmp_path / "a.npz"
    tool = program("encode", f"--run_dir={digits_run}", f"--out={out}", "--max_images=5", "--what=kl")
    monkeypatch.setattr("nvae_tf.runs.data.load_images", damaged)
    tool.main()
    with np.load(out) as file:
        assert file["index"].tolist() == [0, 2, 3, 4] and file["kl_per_group"].shape == (4, 3)


def test_too_large_an_npz_is_refused_before_the_model_is_built(digits_run, program, tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.load_folded", None)
    flags = (f"--run_dir={digits_run}", f"--out={tmp_path / 'a.npz'}", "--max_gib=1e-5", "--max_images=20")
    with pytest.raises(ValueError, match=r"--out: expected at most --max_gib=1e-05 GiB .* a .tfrecord may"):
        program("encode", *flags).main()
    assert not os.listdir(tmp_path)
