"""tools/parity.py ends with status 0 on every reference file, and with 1 when anything differs."""

import dataclasses
import re

import numpy as np
import pytest


@pytest.fixture
def parity(program, monkeypatch, capsys):
    """Function that runs the tool with flags and returns (exit status, output)."""
    # A setting of the whole process.
    monkeypatch.setattr("nvae_tf.training.trainer.configure_runtime", lambda: None)

    def run(*flags):
        with pytest.raises(SystemExit) as ended:
            program("parity", *flags).main()
        return ended.value.code, capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    "name",
    [
        "mnist_small_trained",
        pytest.param("mnist_tiny", marks=pytest.mark.slow),
        pytest.param("cifar10_tiny_flow", marks=pytest.mark.slow),
        pytest.param("celeba64_tiny_5bit", marks=pytest.mark.slow),
    ],
)
def test_golden_files(golden, parity, name):
    pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")
    path = golden / f"{name}.expected.npz"
    status, printed = parity(f"--checkpoint={golden / name}.checkpoint.pt", f"--expected={path}")
    assert status == 0, printed
    with np.load(path) as file:
        count = sum(key != "x" and not key.startswith("eps_") for key in file.files)
    assert f"{count} keys compared, 0 beyond tolerance or unknown" in printed


@pytest.fixture
def small_parity(parity, small_golden, save_checkpoint, tmp_path):
    """Function that runs the tool on some keys of the small golden file: small_parity(weights, expected, *flags)."""

    def run(weights, expected, *flags, keys=("eval_log",)):
        checkpoint, numbers = small_golden
        kept = {key: value for key, value in numbers.items() if key == "x" or key.startswith(("eps_", *keys))}
        np.savez(tmp_path / "expected.npz", **(kept | expected))
        changed = dataclasses.replace(checkpoint, arrays=checkpoint.arrays | weights)
        checkpoint = save_checkpoint(changed)
        return parity(f"--checkpoint={checkpoint}", f"--expected={tmp_path / 'expected.npz'}", *flags)

    return run


def _words(printed, name):
    """The columns of the line of a key."""
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{name} "))
    return line.split()


def test_a_perturbed_number_and_an_unknown_key_fail(small_parity, small_golden):
    log_q = small_golden[1]["eval_log_q"]
    status, printed = small_parity({}, {"eval_log_q": log_q * np.float32(1.0003), "eval_other": log_q})
    assert status == 1 and "4 keys compared, 2 beyond tolerance or unknown" in printed
    assert _words(printed, "eval_log_p")[-1] == "ok"
    _, absolute, relative, tolerance, verdict = _words(printed, "eval_log_q")
    assert (tolerance, verdict) == ("1e-04", "FAIL")
    assert float(relative) == pytest.approx(3e-4, rel=0.02)
    assert float(absolute) == pytest.approx(3e-4 * np.max(np.abs(log_q)), rel=0.02)
    assert _words(printed, "eval_other")[-3:] == ["FAIL", "unknown", "key"]


def test_a_changed_weight_fails_and_so_does_a_file_without_numbers(small_parity, small_golden):
    weights = {"enc_sampler.0.bias": small_golden[0].arrays["enc_sampler.0.bias"] + np.float32(0.05)}
    status, printed = small_parity(weights, {})
    assert status == 1 and _words(printed, "eval_log_q")[-1] == "FAIL"
    status, printed = small_parity({}, {}, keys=())
    assert status == 1 and "0 keys compared" in printed


def test_statistics_are_summed_up_or_listed(small_parity, small_golden):
    keys = [f"bn_after/pre_process.0._ops.{index}.bn_act.running_mean" for index in (0, 1)]
    statistics = {key: small_golden[1][key] for key in keys}
    status, printed = small_parity({}, statistics, "--verbose")
    assert status == 0 and all(_words(printed, key)[-1] == "ok" for key in keys), printed
    statistics[keys[1]] = statistics[keys[1]] + 1.0
    status, printed = small_parity({}, statistics)
    assert status == 1 and f"{keys[0]} " not in printed
    assert _words(printed, keys[1])[-1] == "FAIL"
    assert _words(printed, "bn_after/")[-2:] == ["FAIL", keys[1].removeprefix("bn_after/")]


def test_a_baseline_is_compared_with_its_own_file(parity, baselines_golden, tmp_path):
    with np.load(baselines_golden / "iaf_vae" / "diag_depth2_blocks1.npz") as file:
        expected = dict(file)
    expected["log_px"] = expected["log_px"] * np.float32(1.0001)
    expected["gradient.x_enc.V"] = expected["gradient.x_enc.V"] + np.float32(1.0)
    expected["other"] = expected.pop("z.layer_1_0")
    np.savez(tmp_path / "expected.npz", **expected)
    status, printed = parity("--family=iaf_vae", f"--expected={tmp_path / 'expected.npz'}")
    assert status == 1 and "130 keys compared, 4 beyond tolerance or unknown" in printed
    assert _words(printed, "log_px")[-1] == _words(printed, "gradient.x_enc.V")[-1] == "FAIL"
    assert "missing from the file" in printed and _words(printed, "other")[-2:] == ["unknown", "key"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "expected --checkpoint with the family nvae, and only with it"),
        (
            ["--family=iaf_vae", f"--checkpoint={__file__}"],
            "expected --checkpoint with the family nvae, and only with it",
        ),
        (["--family=vqvae2", "--weights=none.npz"], "expected existing files"),
        ([f"--checkpoint={__file__}", f"--weights={__file__}"], "expected no --weights but with the family vqvae2"),
        (["--family=other"], "value should be one of <nvae|iaf_vae|biva|vqvae2>"),
    ],
)
def test_wrong_flags(parity, arguments, message):
    with pytest.raises(Exception, match=re.escape(message)):
        parity(f"--expected={__file__}", *arguments)
