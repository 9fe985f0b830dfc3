"""tools/parity.py ends with status 0 on every reference file, and with 1 when anything differs."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _parity(checkpoint, expected, *flags):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "tools" / "parity.py"), *flags]
    command += [f"--checkpoint={checkpoint}", f"--expected={expected}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name",
    [
        "mnist_small_trained",
        pytest.param("mnist_tiny", marks=pytest.mark.slow),
        pytest.param("cifar10_tiny_flow", marks=pytest.mark.slow),
        pytest.param("celeba64_tiny_5bit", marks=pytest.mark.slow),
    ],
)
def test_golden_files(golden, name):
    pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")
    path = golden / f"{name}.expected.npz"
    done = _parity(golden / f"{name}.checkpoint.pt", path)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(path) as file:
        count = sum(key != "x" and not key.startswith("eps_") for key in file.files)
    assert f"{count} keys compared, 0 beyond tolerance or unknown" in done.stdout


@pytest.fixture
def small_parity(small_golden, save_checkpoint, tmp_path):
    """Function that runs the tool on the keys eval_log* and small changes: small_parity(weights, expected, *flags)."""

    def run(weights, expected, *flags):
        checkpoint, numbers = small_golden
        kept = {key: value for key, value in numbers.items() if key == "x" or key.startswith(("eps_", "eval_log"))}
        np.savez(tmp_path / "expected.npz", **(kept | expected))
        changed = dataclasses.replace(checkpoint, arrays=checkpoint.arrays | weights)
        return _parity(save_checkpoint(changed), tmp_path / "expected.npz", *flags)

    return run


def _words(done, name):
    """The columns of the line of a key."""
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name} "))
    return line.split()


def test_a_perturbed_number_and_an_unknown_key_fail(small_parity, small_golden):
    log_q = small_golden[1]["eval_log_q"]
    done = small_parity({}, {"eval_log_q": log_q * np.float32(1.0003), "eval_other": log_q})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "4 keys compared, 2 beyond tolerance or unknown" in done.stdout
    assert _words(done, "eval_log_p")[-1] == "ok"
    _, absolute, relative, tolerance, verdict = _words(done, "eval_log_q")
    assert (tolerance, verdict) == ("1e-04", "FAIL")
    assert float(relative) == pytest.approx(3e-4, rel=0.02)
    assert float(absolute) == pytest.approx(3e-4 * np.max(np.abs(log_q)), rel=0.02)
    assert _words(done, "eval_other")[-3:] == ["FAIL", "unknown", "key"]


def test_a_changed_weight_fails(small_parity, small_golden):
    weights = {"enc_sampler.0.bias": small_golden[0].arrays["enc_sampler.0.bias"] + np.float32(0.05)}
    done = small_parity(weights, {})
    assert done.returncode == 1 and _words(done, "eval_log_q")[-1] == "FAIL"


def test_statistics_are_summed_up_or_listed(small_parity, small_golden):
    keys = [f"bn_after/pre_process.0._ops.{index}.bn_act.running_mean" for index in (0, 1)]
    statistics = {key: small_golden[1][key] for key in keys}
    done = small_parity({}, statistics, "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(_words(done, key)[-1] == "ok" for key in keys)
    statistics[keys[1]] = statistics[keys[1]] + 1.0
    done = small_parity({}, statistics)
    assert done.returncode == 1 and f"{keys[0]} " not in done.stdout
    assert _words(done, keys[1])[-1] == "FAIL"
    assert _words(done, "bn_after/")[-2:] == ["FAIL", keys[1].removeprefix("bn_after/")]


def test_errors_are_told_without_a_traceback(small_parity, tmp_path):
    wrong = small_parity({}, {"x": np.zeros([4, 3, 32, 30], np.float32)})
    assert wrong.returncode == 1 and "parity.py: x: expected shapes" in wrong.stderr
    no_numbers = _parity(tmp_path / "checkpoint.pt", tmp_path / "checkpoint.pt")
    assert no_numbers.returncode == 1 and "expected numbers. Received: <class 'bytes'>" in no_numbers.stderr
    missing = _parity("nowhere.pt", tmp_path / "expected.npz")
    assert missing.returncode == 1 and "--checkpoint=nowhere.pt: expected an existing file" in missing.stderr
    for done in (wrong, no_numbers, missing):
        assert "Traceback" not in done.stderr


def test_a_file_without_numbers_to_compare_fails(small_golden, save_checkpoint, tmp_path):
    inputs = {key: value for key, value in small_golden[1].items() if key == "x" or key.startswith("eps_")}
    np.savez(tmp_path / "expected.npz", **inputs)
    done = _parity(save_checkpoint(small_golden[0]), tmp_path / "expected.npz")
    assert done.returncode == 1 and "0 keys compared" in done.stdout
