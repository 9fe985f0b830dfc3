"""Our VQ-VAE-2 computes what the original program computed; nvae_tf.baselines.parity.vqvae2 sees where it does not."""

import numpy as np
import pytest

from nvae_tf.baselines.parity.vqvae2 import compare_numbers
from nvae_tf.comparison import read_arrays


@pytest.fixture(scope="module")
def files(baselines_golden):
    """{name: {key: array}} of the files."""
    names = ("vqvae", "quantizer", "prior_top", "prior_bottom")
    return {name: read_arrays(baselines_golden / "vqvae2" / f"{name}.npz") for name in names}


def _failures(expected, weights=()):
    return sorted(comparison.key for comparison in compare_numbers(expected, *weights) if not comparison.ok)


@pytest.mark.parametrize(
    "name, factors",
    [
        ("vqvae", {"out/loss": 1.0001, "grad/decoder/conv/bias": 1.001, "ema_after/top/sum": 1.0001}),
        ("quantizer", {"step1/grad_vectors": 1.001, "step2/codebook": 1.0001}),
        ("prior_top", {"out/logits": 1.0001, "traj/losses": 1.001}),
        ("prior_bottom", {"out/condition_features": 1.0001, "grad/left/g": 1.001}),
    ],
)
def test_a_file_agrees_but_for_what_was_changed(files, name, factors):
    expected = files[name]
    changed = {key: expected[key] * np.float32(factor) for key, factor in factors.items()}
    codes = next(key for key in expected if "codes" in key and not key.startswith("in/"))
    other = expected[codes].copy()
    other[0, 1, 2] += 1
    compared = list(compare_numbers(expected | changed | {codes: other, "out/other": np.zeros(1)}))
    assert sorted(one.key for one in compared if not one.ok) == sorted([*factors, codes, "out/other"])
    inputs = ("param/", "ema/", "start/", "in/", "traj/learning_rate")
    assert len(compared) == sum(not key.startswith(inputs) for key in expected) + 1


def test_averages_that_start_at_zero_as_in_sonnet(files):
    vectors, decay = files["quantizer"]["in/vectors"], 0.99
    codebook = files["quantizer"]["start/codebook"].astype(np.float64)
    expected = {name: files["quantizer"][name] for name in ("start/codebook", "in/vectors", "in/upstream")}
    count, total = np.zeros(len(codebook)), np.zeros(codebook.shape)
    for step, rows in enumerate(vectors.reshape(len(vectors), -1, vectors.shape[-1])):
        codes = np.argmin(np.sum((rows[:, np.newaxis] - codebook) ** 2, axis=-1), axis=-1)
        used = np.eye(len(codebook))[codes]
        loss = 0.25 * np.mean((rows - codebook[codes]) ** 2)
        count, total = decay * count + (1 - decay) * used.sum(axis=0), decay * total + (1 - decay) * used.T @ rows
        average, everything = count / (1 - decay ** (step + 1)), count.sum() / (1 - decay ** (step + 1))
        smoothed = (average + 1e-5) / (everything + len(codebook) * 1e-5) * everything
        codebook = total / (1 - decay ** (step + 1)) / smoothed[:, np.newaxis]
        numbers = {"codes": codes.reshape(vectors.shape[1:-1]), "loss": loss, "codebook": codebook}
        expected |= {f"step{step}/{key}": value for key, value in numbers.items()}
        expected |= {f"step{step}/hidden_count": count, f"step{step}/hidden_sum": total}
    assert _failures(expected) == []


def test_the_elbo_takes_its_weights_from_other_files(files):
    weights = [files[name] for name in ("prior_bottom", "vqvae", "prior_top")]
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    inputs = {"in/images": np.repeat(image, 2, axis=0), "in/sigma": np.float32(0.3)}
    names = ("nll_top", "nll_bottom", "squared_error", "nll_pixels", "nelbo", "nelbo_bits_per_dim_8bit")
    unknown = {f"out/{name}": np.zeros(2) for name in names}
    # The errors of zeros are the numbers themselves, the same for both images.
    top, bottom, error, pixels, nelbo, bits = (one.absolute for one in compare_numbers(inputs | unknown, *weights))
    assert 0.0 < top < 64 * np.log(1e4) and top < bottom
    assert pixels == pytest.approx(error / (2 * 0.3**2) + image.size / 2 * np.log(2 * np.pi * 0.3**2), rel=1e-5)
    assert nelbo == pytest.approx(pixels + top + bottom, rel=1e-6)
    assert bits == pytest.approx((nelbo + image.size * np.log(127.5)) / (image.size * np.log(2)), rel=1e-6)
    with pytest.raises(ValueError, match="--weights: expected three files, .* Received: 1, of \\['autoencoder'\\]"):
        next(compare_numbers(inputs | unknown, files["vqvae"]))


def test_files_that_do_not_fit_are_refused(files):
    with pytest.raises(ValueError, match="--weights: expected none, because --expected holds them. Received: 1"):
        next(compare_numbers(files["vqvae"], files["vqvae"]))
    with pytest.raises(ValueError, match="--expected: expected an autoencoder, a prior, a quantiser or an ELBO"):
        next(compare_numbers({"out/loss": np.zeros(1)}))
    without = {key: array for key, array in files["prior_top"].items() if key != "param/left/g"}
    with pytest.raises(ValueError, match=r"param/: expected the weights of the model\. Received others: \['left/g'\]"):
        next(compare_numbers(without))
    without = {key: array for key, array in files["prior_top"].items() if key != "in/codes"}
    with pytest.raises(ValueError, match="expected the key 'in/codes'"):
        next(compare_numbers(without))
    with pytest.raises(ValueError, match=r"left/g: expected shape \(32,\)\. Received: \(3,\)"):
        next(compare_numbers(files["prior_top"] | {"param/left/g": np.zeros(3, np.float32)}))
