"""The project's numbers agree with those of the original program, and the comparison detects any that do not."""

import types

import numpy as np
import pytest

from nvae_tf.convert.arguments import config_from_arguments
from nvae_tf.convert.name_map import name_map
from nvae_tf.convert.reference_numbers import compare_numbers, inputs, read_expected
from nvae_tf.convert.torch_reader import OfficialCheckpoint
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.reproduction import Reproduction

TRAJECTORY = "trajectory_lr1e-3_wd3e-4_kl0.3"


@pytest.fixture(scope="module")
def ours(small_golden):
    """Shared, because it keeps what it has computed."""
    checkpoint, expected = small_golden
    return Reproduction(checkpoint, *inputs(expected))


def failures(ours, expected):
    return {comparison.key for comparison in compare_numbers(ours, expected) if not comparison.ok}


def test_small_golden_agrees(ours, small_golden):
    expected = {key: value for key, value in small_golden[1].items() if key != TRAJECTORY}
    comparisons = {comparison.key: comparison for comparison in compare_numbers(ours, expected)}
    assert not [comparison for comparison in comparisons.values() if not comparison.ok]
    assert set(comparisons) == set(expected) - {"x", "eps_0", "eps_1", "eps_2"}
    assert sum(key.startswith("grad_kl0.3/") for key in comparisons) == 146
    assert sum(key.startswith("bn_after/") for key in comparisons) == 52
    assert {"eval_log_iw", "eval_kl_diag_2", "train_loss_kl0.3", "spectral_exact"} <= set(comparisons)


@pytest.mark.slow
def test_small_golden_trains_with_the_same_losses(ours, small_golden):
    losses = small_golden[1][TRAJECTORY]
    assert not failures(ours, {TRAJECTORY: losses})
    # The model is unchanged afterwards: the same numbers come out again.
    assert failures(ours, {TRAJECTORY: losses * np.linspace(1.0, 1.01, len(losses))}) == {TRAJECTORY}


def test_every_key_fails_when_it_is_off_by_three_tolerances(ours, small_golden):
    expected = {key: value for key, value in small_golden[1].items() if key != TRAJECTORY}
    tolerances = {comparison.key: comparison.tolerance for comparison in compare_numbers(ours, expected)}
    largest = max(np.max(np.abs(value)) for key, value in expected.items() if key.startswith("grad_"))
    for key, tolerance in tolerances.items():
        value = np.array(expected[key], np.float64)
        place = np.unravel_index(np.argmax(np.abs(value)), value.shape)
        floor = 1e-4 * largest if key.startswith("grad_") else 0.0
        value[place] += 3.0 * tolerance * max(abs(value[place]), floor)
        expected[key] = value
    assert failures(ours, expected) == set(tolerances)


@pytest.mark.parametrize(
    "key",
    [
        "eval_other",
        "eval_kl_diag_3",
        "grad_kl0.3/other.weight",
        "grad_kl0.3/stem.weight_normalized",
        "grad_kl0.3/pre_process.0._ops.0.bn_act.running_mean",
        "bn_after/stem.weight",
        "train_loss_kl",
        "sample_logits_t0.6x",
        "xx",
    ],
)
def test_unknown_keys_fail(ours, key):
    (comparison,) = compare_numbers(ours, {key: np.zeros(4)})
    assert not comparison.ok and comparison.problem


@pytest.mark.parametrize(
    "key", ["eval_logits", "eval_log_q", "grad_kl0.3/stem.weight", "bn_loss", "train_logits_kl1.0"]
)
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 2), (1, 2, 3, 5)])
def test_other_shapes_fail(ours, key, shape):
    (comparison,) = compare_numbers(ours, {key: np.zeros(shape)})
    assert not comparison.ok and comparison.problem


def test_nan_fails_and_so_does_a_zero_that_should_not_be_one(ours):
    values = {"eval_log_q": np.full(4, np.nan), "eval_log_p": np.zeros(4), "bn_loss": np.array(np.inf)}
    assert failures(ours, values) == set(values)


def test_small_gradients_are_held_to_the_floor(ours, small_golden):
    expected = dict(small_golden[1])
    largest = max(np.max(np.abs(value)) for key, value in expected.items() if key.startswith("grad_"))
    key = min((key for key in expected if key.startswith("grad_")), key=lambda key: np.max(np.abs(expected[key])))
    assert np.max(np.abs(expected[key])) < 1e-4 * largest
    gradients = {name: value for name, value in expected.items() if name.startswith("grad_")}
    for error, fails in ((0.5e-5, False), (2e-5, True)):
        assert (key in failures(ours, gradients | {key: expected[key] + error * largest})) is fails


def test_a_start_that_no_result_uses_has_no_gradient():
    ours = types.SimpleNamespace(unused={"prior_ftr0"})
    assert not failures(ours, {"grad_kl0.3/prior_ftr0": np.zeros([2, 4, 4])})
    assert failures(ours, {"grad_kl0.3/prior_ftr0": np.ones([2, 4, 4])})


def test_normal_decoder_with_one_group(small_golden):
    changes = {"num_groups_per_scale": 1, "num_mixture_dec": 1, "num_nf": 0}
    arguments = small_golden[0].arguments | changes
    model = NVAE(config_from_arguments(arguments).model)
    arrays = {}
    for name, variable in name_map(model).items():
        value = variable.numpy()
        value = value.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[value.ndim])
        arrays[name] = value.reshape(-1, 1, 1, 1) if name.endswith("log_weight_norm") else value
    rng = np.random.default_rng(0)
    images, eps = rng.random([2, 3, 32, 32], np.float32), rng.normal(size=[2, 4, 16, 16]).astype(np.float32)
    ours = Reproduction(OfficialCheckpoint(arrays=arrays, arguments=arguments), images, [eps])
    output = model(images.transpose(0, 2, 3, 1), noise=[eps.transpose(0, 2, 3, 1)])
    logits = output.likelihood_params.numpy().transpose(0, 3, 1, 2)
    assert logits.shape[1] == 6
    expected = {"eval_logits": logits, "eval_kl_all": output.kl_per_group.numpy(), "grad_kl1.0/prior_ftr0": np.zeros(3)}
    assert not failures(ours, expected)
    norm = model.batch_norms[0]
    assert failures(ours, {"bn_after/pre_process.0._ops.0.bn_act.running_mean": norm.moving_mean.numpy()})


def test_noise_and_images_must_fit_the_model(small_golden):
    checkpoint, expected = small_golden
    images, noise = inputs(expected)
    with pytest.raises(ValueError, match=r"images: expected shape \[B, 32, 32, 3\].*Received: \(4, 32, 31, 3\)"):
        Reproduction(checkpoint, images[:, :, :, 1:], noise)
    with pytest.raises(ValueError, match="noise: expected 3 tensors"):
        Reproduction(checkpoint, images, noise[:2])
    with pytest.raises(ValueError, match=r"without \['eps_0'\]"):
        inputs({"x": images, "eps_1": noise[1]})
    with pytest.raises(ValueError, match="expected the keys x, eps_0"):
        inputs({"x": images})


def test_files_that_hold_no_numbers_are_refused(tmp_path):
    path = tmp_path / "expected.npz"
    with pytest.raises(ValueError, match="expected.npz: expected an .npz file"):
        read_expected(path)
    np.savez(path, x=np.array(["text"]))
    with pytest.raises(ValueError, match="expected an .npz file"):
        read_expected(path)
    np.savez(path, x=np.array([None]))
    with pytest.raises(ValueError, match="expected an .npz file"):
        read_expected(path)
    np.savez(path, x=np.arange(1000.0))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="expected an .npz file"):
        read_expected(path)
    with open(path, "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(ValueError, match="expected an .npz file"):
        read_expected(path)
