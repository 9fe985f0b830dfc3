"""Runs of .tflite files: the three devices agree, and a file that does not run says why."""

import os

import numpy as np
import pytest

from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.export.tflite.check.run import NotAvailable, RunFailed, random_inputs
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from tests.export.tflite.tiny_tflite import SHAPES, conv, convert, good


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    """(path, graph) of the good decoder."""
    path = tmp_path_factory.mktemp("good") / "model.tflite"
    path.write_bytes(convert(good, **SHAPES))
    return path, TFLiteGraph(path.read_bytes())


def run(path, graph, inputs, device):
    """`run_file`; if something that it needs is missing, the test is skipped, but in CI it fails."""
    try:
        return tflite_run.run_file(path, graph, inputs, device)
    except NotAvailable as reason:
        if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
            raise
        pytest.skip(str(reason))


def test_devices_agree(good_file):
    """CPU, reference kernels and GPU delegate; different draws give different outputs."""
    path, graph = good_file
    inputs = random_inputs(graph, 3, seed=0)
    cpu, reference, gpu = (run(path, graph, inputs, device) for device in ("cpu", "reference", "gpu"))
    assert gpu.accelerated is True
    assert cpu.outputs["likelihood_params"].shape == (3, 1, 8, 8, 6)
    assert cpu.outputs["likelihood_params"].std(axis=0).min() > 0
    for name, value in cpu.outputs.items():
        np.testing.assert_allclose(reference.outputs[name], value, atol=1e-5 * np.abs(value).max())
        np.testing.assert_allclose(gpu.outputs[name], value, atol=1e-5 * np.abs(value).max())


def test_draws(good_file):
    """Normal noise, evenly spaced temperatures, uniform images; the same seed gives the same draws."""
    graph = good_file[1]
    inputs = random_inputs(graph, 3, seed=4)
    assert {name: list(value.shape[1:]) for name, value in inputs.items()} == SHAPES
    np.testing.assert_allclose(inputs["temperature"].ravel(), [0.5, 0.75, 1.0])
    np.testing.assert_array_equal(random_inputs(graph, 3, seed=4)["noise_01"], inputs["noise_01"])
    image = random_inputs(TFLiteGraph(convert(lambda image: conv(image, 2), image=[1, 8, 8, 1])), 9, seed=0)["image"]
    assert 0 <= image.min() < 0.1 and 0.9 < image.max() < 1


def test_damaged(good_file, tmp_path):
    """The message of the runtime if it refuses a file."""
    path = tmp_path / "half.tflite"
    path.write_bytes(good_file[0].read_bytes()[:4000])
    with pytest.raises(RunFailed, match="ValueError"):
        run(path, good_file[1], random_inputs(good_file[1], 1, seed=0), "cpu")


def test_crash(good_file, tmp_path, monkeypatch):
    """A crash of the process, and a run that does not end."""
    script = tmp_path / "dies.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(tflite_run, "__file__", str(script))
    with pytest.raises(RunFailed, match="crashed with SIGSEGV"):
        run(*good_file, random_inputs(good_file[1], 1, seed=0), "cpu")
    script.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(tflite_run, "_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(RunFailed, match="did not end within 0.2 s"):
        run(*good_file, random_inputs(good_file[1], 1, seed=0), "cpu")


def test_no_driver(good_file, monkeypatch, tmp_path):
    """A Vulkan driver that does not start."""
    inputs = random_inputs(good_file[1], 1, seed=0)
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        monkeypatch.setenv(name, str(tmp_path / f"{name}.json"))
        message = f"expected a Vulkan device. Received: none that .*{name}.json could start; apt-get install chromium"
        with pytest.raises(NotAvailable, match=message):
            tflite_run.run_file(*good_file, inputs, "gpu")


def test_named_driver(good_file, monkeypatch):
    """Chromium's driver also works when the user names it; its loader is still found."""
    driver = tflite_run._CHROMIUM / "vk_swiftshader_icd.json"
    if not driver.is_file():
        pytest.skip(f"no {driver}")
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
        monkeypatch.setenv(name, str(driver))
        assert run(*good_file, random_inputs(good_file[1], 1, seed=0), "gpu").accelerated
