"""What a .tflite file should compute: by the Keras model of a run, or by the golden numbers beside the file."""

import json
import os

import numpy as np

from nvae_tf.export.device_graph import encode_graph, sample_graph
from nvae_tf.export.parity import draw_cases
from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.files import file_sum

# Every other draw is at this temperature, so that a file that ignores its input differs.
_TEMPERATURE = 0.6


def keras_case(nvae, graph, num, seed):
    """Random inputs of a file, and what the Keras model makes of them.

    Args:
        nvae: `NVAE`.
        graph: `TFLiteGraph` with the signature `sample` or `encode`; `sample` may lack the noise of the last groups,
            which are then at their prior's mean.
        num: of draws.
        seed: of the draws.

    Returns:
        ({input: array [num, 1, ...]}, {output: array [num, 1, ...]}), the outputs being all that are known.

    Raises:
        ValueError: the signature or its inputs are not those of this model.
    """
    if graph.signature == "sample":
        expected = sample_graph(nvae, 1, len(graph.inputs) - 1)
    elif graph.signature == "encode":
        expected = encode_graph(nvae, 1, noise_only=True)
    else:
        raise ValueError(f"signature: expected sample or encode. Received: {graph.signature}")
    shapes = {name: tuple(spec.shape) for name, spec in expected.inputs.items()}
    received = {value.name: value.shape for value in graph.inputs}
    for name in sorted({*shapes, *received}):
        if shapes.get(name) != received.get(name):
            raise ValueError(
                f"{name}: expected {_text(shapes, name)}, as of the run's model. Received: {_text(received, name)}"
            )
    cases = draw_cases(nvae, expected, 1, _TEMPERATURE, num=num, seed=seed)
    return tuple({name: np.stack([case[side][name] for case in cases]) for name in cases[0][side]} for side in (0, 1))


def _text(shapes, name):
    return f"an input of shape {list(shapes[name])}" if name in shapes else "no such input"


def golden_case(path, tflite_path, graph):
    """Golden numbers of a sidecar decoder.json.

    Args:
        path: of the sidecar; its golden file lies beside it.
        tflite_path: the file to be checked, whose SHA-256 the sidecar must have.
        graph: its `TFLiteGraph`.

    Returns:
        ({input: array [1, *shape]}, {output: array [1, *shape]}).

    Raises:
        ValueError: a sidecar of another file or model, or one that is damaged.
        NotAvailable: the sidecar has no golden numbers of the file's signature.
    """
    try:
        with open(path, encoding="utf-8") as file:
            sidecar = json.load(file)
        sums, part = dict(sidecar["sha256"]), sidecar
        if graph.signature == "encode":
            part = sidecar["encoder"] or {}
            if "golden" not in part:
                raise tflite_run.NotAvailable(
                    f"{path}: expected golden numbers of encode. Received: none; export again"
                )
        golden = part["golden"]
        golden_path = os.path.join(os.path.dirname(path), golden["file"])
        numbers, arrays = np.fromfile(golden_path, "<f4"), {"input": {}, "output": {}}
        for entry in golden["arrays"]:
            part = numbers[entry["offset"] : entry["offset"] + entry["count"]]
            arrays[entry["role"]][entry["name"]] = part.reshape(1, *entry["shape"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        message = f"{path}: expected a sidecar decoder.json with its golden file. Received: {error!r}"
        raise ValueError(message) from error
    for each in (tflite_path, golden_path):
        name = os.path.basename(each)
        if sums.get(name) != file_sum(each):
            raise ValueError(f"{each}: expected SHA-256 {sums.get(name)}, as {path} says. Received: {file_sum(each)}")
    for role, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            if value.name not in arrays[role] or arrays[role][value.name].shape[1:] != value.shape:
                expected = f"golden {role} {value.name} of shape {list(value.shape)}"
                raise ValueError(f"{path}: expected {expected}. Received: none such")
    return arrays["input"], arrays["output"]
