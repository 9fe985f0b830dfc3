"""Runs of .tflite files: the three devices agree, and what does not run says why."""

import importlib.metadata
import os

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.export.tflite.check.run import NotAvailable, RunFailed, random_inputs
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from tests.export.tflite.tiny_tflite import SHAPES, conv, convert, good, naive

_X = {"x": [1, 4, 4, 6]}


def _file(folder, function, **shapes):
    path = folder / "model.tflite"
    path.write_bytes(convert(function, **shapes))
    return path, TFLiteGraph(path.read_bytes())


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    """(path, graph) of the good decoder."""
    return _file(tmp_path_factory.mktemp("good"), good, **SHAPES)


def run(path, graph, inputs, device):
    """`run_file`; where something that it needs is missing, the test is skipped, but fails in CI."""
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


def test_largest(tmp_path):
    """The reference keeps each tensor's largest magnitude over the draws."""
    path, graph = _file(tmp_path, lambda x: {"out": tf.exp(x) * -3.0}, **_X)
    inputs = random_inputs(graph, 5, seed=1)
    largest = run(path, graph, inputs, "reference").largest
    named = {graph.name(index): largest[index] for index in range(len(graph.subgraph.tensors))}
    assert named["x"] == np.abs(inputs["x"]).max()
    np.testing.assert_allclose(named["out"], 3 * np.exp(inputs["x"].max()), rtol=1e-6)


def test_draws(good_file):
    """Normal noise, spread temperatures, uniform images; a seed gives the same again."""
    graph = good_file[1]
    inputs = random_inputs(graph, 3, seed=4)
    assert {name: list(value.shape[1:]) for name, value in inputs.items()} == SHAPES
    np.testing.assert_allclose(inputs["temperature"].ravel(), [0.5, 0.75, 1.0])
    np.testing.assert_array_equal(random_inputs(graph, 3, seed=4)["noise_01"], inputs["noise_01"])
    image = random_inputs(TFLiteGraph(convert(lambda image: conv(image, 2), image=[1, 8, 8, 1])), 9, seed=0)["image"]
    assert 0 <= image.min() < 0.1 and 0.9 < image.max() < 1


def test_rejected(tmp_path):
    """The error names what the delegate does not take; the CPU runs it."""
    path, graph = _file(tmp_path, naive, **SHAPES)
    inputs = random_inputs(graph, 1, seed=0)
    run(path, graph, inputs, "cpu")
    with pytest.raises(RunFailed, match="not taken by the delegate: .*RESHAPE: Tensor dimensions must be less than 5"):
        run(path, graph, inputs, "gpu")


def test_accelerated_but_wrong(tmp_path):
    """Why agreement is required: the delegate accepts an output that is an input, and computes zeros."""
    path, graph = _file(tmp_path, lambda x: {"a": x, "b": 2.0 * x}, **_X)
    inputs = random_inputs(graph, 1, seed=0)
    result = run(path, graph, inputs, "gpu")
    assert result.accelerated
    assert np.abs(result.outputs["a"] - inputs["x"]).max() > 0.1


def test_other_types(tmp_path):
    """The error names inputs and outputs that are not float32 of fixed shape."""
    path, graph = _file(tmp_path, lambda x: {"label": tf.argmax(x, -1)}, **_X)
    with pytest.raises(RunFailed, match="label: expected FLOAT32 of fixed shape. Received: INT64"):
        random_inputs(graph, 1, seed=0)
    path, graph = _file(tmp_path, lambda x: 2.0 * x, x=[None, 4])
    with pytest.raises(RunFailed, match=r"x: expected FLOAT32 of fixed shape. Received: FLOAT32 \[-1, 4\]"):
        run(path, graph, {}, "cpu")


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


def test_slow_device():
    """A read that times out is repeated with another buffer, but not forever."""

    class Model:
        def __init__(self, num_failures):
            self.made, self.num_failures = 0, num_failures

        def create_input_buffer_by_name(self, signature, name):
            self.made += 1
            return self

        def write(self, value):
            pass

        def read(self, size, dtype):
            if self.made <= self.num_failures:
                raise RuntimeError("Failed to lock custom tensor buffer")

    for num_failures, made in ((0, 1), (2, 3), (1000, 12)):
        model = Model(num_failures)
        tflite_run._wait(model, "sample", "x", np.zeros(1, np.float32))
        assert model.made == made


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


def test_vulkan_environment(monkeypatch, tmp_path):
    """Chromium's loader comes after the user's folders, its driver is the default; without Chromium nothing is set."""
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "mine")
    monkeypatch.setattr(tflite_run, "_CHROMIUM", tmp_path)
    assert tflite_run.vulkan_environment() == {}
    driver = tmp_path / "vk_swiftshader_icd.json"
    for path in (driver, tmp_path / "libvulkan.so.1"):
        path.touch()
    paths = {"LD_LIBRARY_PATH": f"mine{os.pathsep}{tmp_path}"}
    assert tflite_run.vulkan_environment() == {**paths, "VK_ICD_FILENAMES": str(driver)}
    monkeypatch.setenv("VK_DRIVER_FILES", "other.json")
    assert tflite_run.vulkan_environment() == paths


def test_versions(monkeypatch):
    """A runtime of another version, or none."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.1.0")
    with pytest.raises(NotAvailable, match="expected ai-edge-litert 2.3. Received: 9.1.0; pip install"):
        tflite_run.check_runtime()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.30.0")
    with pytest.raises(NotAvailable, match="Received: 2.30.0"):
        tflite_run.check_runtime()

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(NotAvailable, match="Received: none; pip install 'ai-edge-litert==2.3"):
        tflite_run.check_runtime()
