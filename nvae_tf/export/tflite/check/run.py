"""Runs a .tflite file on the CPU and on LiteRT's GPU delegate, each in a new process, because a crash is a result too.

The delegate (ML Drift, WebGPU backend) comes with ai-edge-litert and needs a Vulkan device. The software device of
Debian's chromium is enough: it shows whether every op runs and agrees, not how fast a phone is.
"""

import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np

_CHROMIUM = pathlib.Path("/usr/lib/chromium")
_TIMEOUT_SECONDS = 3600
_MAX_WAITS = 12


class NotAvailable(Exception):
    """This machine cannot run the file; the message says what to install."""


class RunFailed(Exception):
    """The file was rejected, crashed the process or did not finish; the message says which."""


class FileRun(NamedTuple):
    """Outputs of a file, and other observations of its run.

    `largest` is the largest magnitude of each tensor over the draws [num_tensors], NaN for tensors that are never
    computed, and `sums` the same for the sum of magnitudes over height and width of a channel, NaN for tensors not of
    rank 4; both only for the device "reference".
    """

    outputs: dict  # {name: float32 array [N, *shape]}
    largest: np.ndarray | None = None
    sums: np.ndarray | None = None
    accelerated: bool | None = None  # whether the delegate took every op; only for the device "gpu"


def vulkan_environment():
    """Environment variables with which a process finds a Vulkan loader and driver.

    Chromium's loader is used if the system has none. The driver is the one that VK_DRIVER_FILES or VK_ICD_FILENAMES
    names, else Chromium's, else what the loader finds.
    """
    variables, driver = {}, _CHROMIUM / "vk_swiftshader_icd.json"
    if any(_CHROMIUM.glob("libvulkan.so*")):
        paths = [*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), str(_CHROMIUM)]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(paths)
    if not _named_driver() and driver.is_file():
        variables["VK_ICD_FILENAMES"] = str(driver)
    return variables


def _named_driver():
    return os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")


def random_inputs(graph, num, seed, temperatures=(0.5, 1.0)):
    """Draws inputs for a file: standard normals, evenly spaced temperatures, images uniform in [0, 1].

    Returns {name: float32 array [num, *shape]}; raises `RunFailed` if inputs or outputs are not float32 of fixed shape.
    """
    _check_values(graph)
    rng, inputs = np.random.default_rng(seed), {}
    for value in graph.inputs:
        if value.name == "temperature":
            column = np.linspace(*temperatures, num, dtype=np.float32)
            inputs[value.name] = column.reshape(num, *[1] * len(value.shape))
        else:
            draw = rng.random if value.name == "image" else rng.standard_normal
            inputs[value.name] = draw((num, *value.shape), np.float32)
    return inputs


def _check_values(graph):
    if graph.signature is None or not graph.inputs or not graph.outputs:
        raise RunFailed("expected a named signature with inputs and outputs. Received: none")
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype != "FLOAT32" or -1 in value.shape:
            received = f"{value.dtype} {list(value.shape)}"
            raise RunFailed(f"{value.name}: expected FLOAT32 of fixed shape. Received: {received}")


def run_file(path, graph, inputs, device):
    """`FileRun` of the first signature of a .tflite file for every draw.

    Args:
        path: path of the file.
        graph: its `TFLiteGraph`.
        inputs: {name: float32 array [N, *shape]} for every input.
        device: "cpu" (XNNPACK, one thread), "gpu" (only the delegate: an op that it does not take is an error), or
            "reference" (the CPU without delegates; the largest magnitude of every tensor is kept).

    Raises:
        NotAvailable: there is no Vulkan device, for "gpu".
        RunFailed: the file does not run.
    """
    _check_values(graph)
    environment = {**os.environ, **(vulkan_environment() if device == "gpu" else {})}
    with tempfile.TemporaryDirectory() as folder:
        given, made = os.path.join(folder, "inputs.npz"), os.path.join(folder, "outputs.npz")
        # By position, because names in a foreign file may be anything.
        np.savez(given, *(inputs[name] for name in sorted(inputs)))
        # -P: the modules beside this file must not hide packages of the same name.
        command = [sys.executable, "-P", __file__, str(path), given, made, device]
        try:
            process = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"it did not end within {_TIMEOUT_SECONDS} s") from error
        if process.returncode or not os.path.exists(made):
            _raise_problem(process)
        with np.load(made) as file:
            names = sorted(value.name for value in graph.outputs)
            outputs = {name: file[f"arr_{place}"] for place, name in enumerate(names)}
            largest, sums = file["magnitudes"] if device == "reference" else (None, None)
            return FileRun(outputs, largest, sums, bool(file["accelerated"]) if device == "gpu" else None)


def _raise_problem(process):
    if "No adapters found" in process.stderr:
        named = _named_driver()
        received = f"none that {named} could start" if named else "none; VK_DRIVER_FILES names one"
        raise NotAvailable(f"expected a Vulkan device. Received: {received}; apt-get install chromium brings one")
    if process.returncode < 0:
        raise RunFailed(f"the process crashed with {signal.Signals(-process.returncode).name}")
    rejected = re.search(r"not supported by GPU delegate:\n(.*?)\n[^\n]*will run on the", process.stderr, re.DOTALL)
    if rejected:
        raise RunFailed("not taken by the delegate: " + "; ".join(rejected.group(1).splitlines()))
    # The runtime's exceptions give their cause in the last lines.
    lines = [line.strip(" └") for line in process.stderr.splitlines() if line.strip()]
    last = max((place for place, line in enumerate(lines) if re.match(r"\w+(Error|Exception)\b", line)), default=-1)
    raise RunFailed(" ".join(lines[last:][:4]) or "the process ended without outputs")


def _on_cpu(path, arrays, reference):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if reference else OpResolverType.AUTO
    interpreter = Interpreter(
        path, num_threads=1, experimental_op_resolver_type=kind, experimental_preserve_all_tensors=reference
    )
    runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    names, rows, largest = sorted(runner.get_input_details()), [], None
    for values in zip(*arrays, strict=True):
        outputs = runner(**dict(zip(names, values, strict=True)))
        rows.append([outputs[name] for name in sorted(outputs)])
        if reference:
            magnitudes = _magnitudes(interpreter)
            largest = magnitudes if largest is None else np.fmax(largest, magnitudes)
    return rows, {} if largest is None else {"magnitudes": largest}


def _magnitudes(interpreter):
    """`largest` and `sums` of a `FileRun` [2, num_tensors]; temporary tensors of the kernels come last."""
    details = interpreter.get_tensor_details()
    result = np.full([2, max(detail["index"] for detail in details) + 1], np.nan, np.float32)
    for index in (detail["index"] for detail in details if np.issubdtype(detail["dtype"], np.floating)):
        try:
            value = interpreter.get_tensor(index)
        except ValueError:  # a tensor that no op computes
            continue
        # Infinity in place of NaN, which maxima ignore.
        value = np.nan_to_num(np.abs(value), nan=np.inf, posinf=np.inf)
        result[0, index] = value.max(initial=0.0)
        if value.ndim == 4:
            result[1, index] = value.sum(axis=(1, 2)).max(initial=0.0)
    return result


def _on_gpu(path, arrays):
    from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

    # By default a device may compute in half precision, whose error is measured by half_audit.py.
    options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))
    model = CompiledModel.from_file(path, options=options)
    signature, sides = next(iter(model.get_signature_list().items()))
    inputs = {name: model.create_input_buffer_by_name(signature, name) for name in sorted(sides["inputs"])}
    outputs = {name: model.create_output_buffer_by_name(signature, name) for name in sorted(sides["outputs"])}
    details, rows = model.get_output_tensor_details(signature), []
    shapes = [tuple(details[name]["shape"]) for name in outputs]
    for values in zip(*arrays, strict=True):
        for buffer, value in zip(inputs.values(), values, strict=True):
            buffer.write(value)
        model.run_by_name(signature, inputs, outputs)
        _wait(model, signature, next(iter(inputs)), values[0])
        read = zip(outputs.values(), shapes, strict=True)
        rows.append([buffer.read(math.prod(shape), np.float32).reshape(shape) for buffer, shape in read])
    return rows, {"accelerated": model.is_fully_accelerated()}


def _wait(model, signature, name, value):
    """Waits for the device by reading unused buffers: a buffer whose read times out can never be read again."""
    for _ in range(_MAX_WAITS):
        buffer = model.create_input_buffer_by_name(signature, name)
        buffer.write(value)
        try:
            buffer.read(value.size, np.float32)
            return
        except RuntimeError:
            continue  # if the device is lost, reading the outputs fails


def _child(path, given, made, device):
    with np.load(given) as file:
        arrays = [file[f"arr_{place}"] for place in range(len(file.files))]
    rows, more = _on_gpu(path, arrays) if device == "gpu" else _on_cpu(path, arrays, device == "reference")
    np.savez(made, *(np.stack(column) for column in zip(*rows, strict=True)), **more)


if __name__ == "__main__":
    _child(*sys.argv[1:])
