"""How closely an exported file agrees with the Keras model it was made from: parity.json."""

import contextlib
import importlib.metadata
import statistics
import timeit

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.export.device_graph import mean_name
from nvae_tf.files import new_folder, write_json
from nvae_tf.hierarchy import numbered
from nvae_tf.models.noise import group_temperatures

_FORMAT = 1
PARITY = "parity.json"
# Largest error of an export, relative to an output's largest value, by the precision of its weights.
TOLERANCES = {"float32": 1e-5, "float16": 5e-3}
_TIMED_RUNS = 5


@contextlib.contextmanager
def in_float32():
    """Switches TensorFloat-32 off: GPUs would round to ten bits, far more than an export may differ from Keras."""
    switch, before = tf.config.experimental, tf.config.experimental.tensor_float_32_execution_enabled()
    switch.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        switch.enable_tensor_float_32_execution(before)


@contextlib.contextmanager
def export_folder(nvae, out_dir, kind, runtime, temperature):
    """Context of an export, TFLite or ONNX, to a folder that is new or empty; writes parity.json at its end.

    Yields the folder to write to, and `compare_outputs` for its files with the package `runtime`. ImportError if that
    is not installed, FileExistsError if the folder is not empty, ValueError if the temperature is out of range.
    """
    group_temperatures(temperature, nvae.model_config)  # raises if it is out of range
    version, entries = runtime_version(runtime), []

    def compare(*arguments):
        entries.append(compare_outputs(runtime, version, *arguments))
        return entries[-1]

    with in_float32(), new_folder(out_dir) as folder:
        yield folder, compare
        write_parity(folder, kind, entries)


@in_float32()
def draw_cases(nvae, graph, batch_size, temperature, num=4, seed=0):
    """Random inputs of a `DeviceGraph` and the outputs of the Keras model: a list of ({input: array}, {output: array}).

    The temperature is the given one in every other case, beginning with the first, and 1 in the others.
    """
    rng, answer, cases = np.random.default_rng(seed), _ANSWERS[graph.name], []
    for index in range(num):
        inputs = {}
        for name, spec in graph.inputs.items():
            shape = [batch_size, *spec.shape[1:]]
            if name == "temperature":
                inputs[name] = np.full(shape, temperature if index % 2 == 0 else 1.0, np.float32)
            else:
                inputs[name] = (rng.random if name == "image" else rng.standard_normal)(shape, np.float32)
        cases.append((inputs, {name: np.asarray(value) for name, value in answer(nvae, inputs).items()}))
    return cases


def _sample(nvae, inputs):
    shapes = nvae.noise_shapes(len(inputs["temperature"]))
    # A group without noise is at its prior's mean.
    names = zip(numbered("noise", nvae.model_config), shapes, strict=True)
    noise = [inputs.get(name, np.zeros(shape, np.float32)) for name, shape in names]
    return _likelihood(nvae, nvae.generate(noise, temperature=tf.constant(inputs["temperature"])))


def _decode(nvae, inputs):
    return _likelihood(nvae, nvae.decode([inputs[name] for name in numbered("latent", nvae.model_config)]))


def _likelihood(nvae, params):
    return {"likelihood_params": params, mean_name(nvae.model_config): nvae.likelihood(params).mean()}


def _encode(nvae, inputs):
    config = nvae.model_config
    result = nvae(inputs["image"], noise=[inputs[name] for name in numbered("posterior_noise", config)])
    outputs = dict(zip(numbered("noise", config), nvae.prior_noise(result.latents), strict=True))
    outputs |= zip(numbered("latent", config), result.latents, strict=True)
    return {**outputs, "kl_per_group": result.kl_per_group}


_ANSWERS = {"sample": _sample, "decode": _decode, "encode": _encode}


def runtime_version(package):
    """Version of an installed runtime; ImportError, which says how to install it, if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(f"exported files are checked with {package}: pip install -e '.[device]'") from error


def measure(received, expected):
    """Errors of an array: {"max_error", "mean_error", "relative": max_error over the largest expected magnitude}."""
    errors, largest = np.abs(received - expected), float(np.max(np.abs(expected)))
    relative = float(errors.max()) / max(largest, np.finfo(np.float32).tiny)
    return {"max_error": float(errors.max()), "mean_error": float(errors.mean()), "relative": relative}


def agreement_with_keras(name, received, expected, precision):
    """The errors that `measure` gives; ValueError, which begins with `name`, if they exceed `TOLERANCES`."""
    errors, limit = measure(received, expected), TOLERANCES[precision]
    if not errors["relative"] <= limit:  # also if it is NaN
        raise ValueError(
            f"{name}: expected what Keras gives, within {limit:.0e} of its largest value. Received: {errors}"
        )
    return errors


def compare_outputs(runtime, version, path, precision, run, cases):
    """Runs an exported file, compares its outputs with those of Keras and returns its entry in parity.json.

    `run` is a function from {input: array} to {output: array}, and `cases` what `draw_cases` returned; outputs that the
    file does not have are left out. The entry's seconds are the median for the first case. Raises ValueError if an
    output differs by more than the `TOLERANCES` of a precision allow.
    """
    received = [run(inputs) for inputs, _ in cases]
    outputs = {}
    for name in received[0]:
        expected, values = (np.concatenate([case[name] for case in one]) for one in ([c[1] for c in cases], received))
        outputs[name] = agreement_with_keras(f"{path.name}: {name}", values, expected, precision)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "precision": precision,
        "runtime": runtime,
        "version": version,
        "seconds": statistics.median(timeit.repeat(lambda: run(cases[0][0]), number=1, repeat=_TIMED_RUNS)),
        "outputs": outputs,
    }


def write_parity(folder, export, entries):
    """Writes parity.json of an export (TFLite, ONNX or SavedModel) with the entries of `compare_outputs`."""
    against = f"NVAE of Keras {keras.__version__}, TensorFlow {tf.__version__}"
    write_json(folder / PARITY, {"format": _FORMAT, "export": export, "against": against, "files": entries})
