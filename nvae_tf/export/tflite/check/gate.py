"""The four parts of check_tflite.py: what each checks, and whether it passes, fails or is not shown."""

import collections
import pathlib
from typing import NamedTuple

import numpy as np

from nvae_tf.export.device_graph import encode_graph, sample_graph
from nvae_tf.export.parity import TOLERANCES, draw_cases, runtime_version
from nvae_tf.export.tflite.check.half_audit import audit, relative_error
from nvae_tf.export.tflite.check.rules import lint_tflite
from nvae_tf.export.tflite.check.run import NotAvailable, RunFailed, random_inputs, run_file
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from nvae_tf.export.tflite.sidecar import sidecar_answers

PASS, FAIL, NOT_SHOWN = "PASS", "FAIL", "NOT SHOWN"
GPU_TOLERANCE = 1e-3
HALF_TOLERANCE = 2e-2
# Used in every other comparison with Keras, to find a file that ignores its temperature input.
_TEMPERATURE = 0.6


class Part(NamedTuple):
    """A part of the gate: "lint", "gpu", "keras" or "half"."""

    name: str
    verdict: str  # PASS, FAIL or NOT_SHOWN
    reason: str  # one line: the figures, or what is wrong or missing
    details: tuple = ()  # further lines, the most important first


def check_file(path, *, nvae=None, reference=None, num_draws=4, num_audit_draws=32, seed=0):
    """Checks one .tflite file; yields each `Part` as soon as it is known.

    Args:
        path: path of the file.
        nvae: `NVAE` that the file should agree with. Default None.
        reference: path of a sidecar decoder.json whose golden numbers the file should agree with, used if there is
            no `nvae`. Default None.
        num_draws, num_audit_draws: number of random inputs for "gpu" and "keras", and for "half". Default 4 and 32.
        seed: seed of the random inputs. Default 0.
    """
    try:
        graph = TFLiteGraph(pathlib.Path(path).read_bytes())
    except ValueError as error:
        yield Part("lint", FAIL, str(error))
        for name in ("gpu", "keras", "half"):
            yield Part(name, NOT_SHOWN, "the file cannot be read")
        return
    yield _lint(graph)
    checks = {
        "gpu": lambda: _gpu(path, graph, num_draws, seed),
        "keras": lambda: _keras(path, graph, nvae, reference, num_draws, seed),
        "half": lambda: _half(path, graph, num_audit_draws, seed),
    }
    for name, check in checks.items():
        try:
            runtime_version("ai-edge-litert")  # raises if it is not installed
            yield check()
        except (NotAvailable, ImportError) as error:
            yield Part(name, NOT_SHOWN, str(error))
        except (RunFailed, ValueError) as error:
            yield Part(name, FAIL, str(error))


def _lint(graph):
    findings = lint_tflite(graph)
    if findings:
        return Part("lint", FAIL, f"{len(findings)} findings", tuple(map(str, findings)))
    ops = collections.Counter(map(graph.op_name, graph.operators))
    return Part("lint", PASS, f"{ops.total()} ops of {len(ops)} kinds, all on the list")


def _gpu(path, graph, num_draws, seed):
    inputs = random_inputs(graph, num_draws, seed)
    expected, received = (run_file(path, graph, inputs, device) for device in ("cpu", "gpu"))
    if not received.accelerated:
        return Part("gpu", FAIL, "not every op runs on the delegate")
    return agreement("gpu", received.outputs, expected.outputs, GPU_TOLERANCE, "the CPU", "every op accelerated; ")


def _keras(path, graph, nvae, reference, num_draws, seed):
    if nvae is None and reference is None:
        return Part("keras", NOT_SHOWN, "expected --run_dir or --reference. Received: neither")
    if nvae is not None:
        source, (inputs, expected) = "Keras", _keras_case(nvae, graph, num_draws, seed)
    else:
        answers = sidecar_answers(reference, path, graph.signature)
        if answers is None:
            raise NotAvailable(f"{reference}: expected golden numbers of {graph.signature}. Received: none")
        source, (inputs, expected) = reference, _stacked([answers])
    received = run_file(path, graph, inputs, "cpu").outputs
    unknown = sorted(set(received) - set(expected))
    if unknown:
        raise ValueError(f"{unknown[0]}: expected an output of {source}. Received: another")
    precision = "float16" if graph.stored("FLOAT16") else "float32"
    return agreement("keras", received, expected, TOLERANCES[precision], source)


def _keras_case(nvae, graph, num_draws, seed):
    """({input: array [num_draws, 1, ...]}, {output: array}) of the model, checked against the file's inputs."""
    if graph.signature == "sample":
        # A file may lack the noise of the last groups, which are then at their prior's mean.
        expected = sample_graph(nvae, 1, len(graph.inputs) - 1)
    elif graph.signature == "encode":
        expected = encode_graph(nvae, 1, noise_only=True)
    else:
        raise ValueError(f"signature: expected sample or encode. Received: {graph.signature}")
    shapes = {name: tuple(spec.shape) for name, spec in expected.inputs.items()}
    received = {value.name: value.shape for value in graph.inputs}
    for name, _ in sorted(shapes.items() ^ received.items()):
        wanted, found = shapes.get(name), received.get(name)
        raise ValueError(f"{name}: expected {wanted}, as in the run's model. Received: {found}")
    return _stacked(draw_cases(nvae, expected, 1, _TEMPERATURE, num=num_draws, seed=seed))


def _stacked(cases):
    """({input: array [N, 1, ...]}, {output: array}) of N pairs of such dictionaries."""
    return tuple({name: np.stack([case[side][name] for case in cases]) for name in cases[0][side]} for side in (0, 1))


def _half(path, graph, num_draws, seed):
    magnitudes, errors = audit(path, graph, random_inputs(graph, num_draws, seed, temperatures=(1.0, 1.0)))
    worst = max(errors, key=lambda name: errors[name][0])
    largest, mean = errors[worst]
    top, risks = magnitudes[0], sum(magnitude.at_risk for magnitude in magnitudes)
    reason = (
        f"largest number of {num_draws} draws {top.largest:.4g}, {top.margin:.3g} times below fp16's "
        f"({risks} at risk); all rounded, {worst} at most {largest:.1e} off (tolerance {HALF_TOLERANCE:.0e}), "
        f"{mean:.1e} on average"
    )
    verdict = PASS if not risks and largest <= HALF_TOLERANCE else FAIL
    return Part("half", verdict, reason, (*_lines(errors), *map(str, magnitudes)))


def agreement(name, received, expected, tolerance, source, before=""):
    """`Part` that passes if {output: array} of both sides agree within a tolerance of `relative_error`."""
    errors = {output: relative_error(value, expected[output]) for output, value in received.items()}
    worst = max(errors, key=lambda output: errors[output][0])
    reason = f"{before}{worst} at most {errors[worst][0]:.1e} off {source} (tolerance {tolerance:.0e})"
    return Part(name, PASS if errors[worst][0] <= tolerance else FAIL, reason, _lines(errors))


def _lines(errors):
    return tuple(f"{output}: largest {most:.1e}, mean {mean:.1e}" for output, (most, mean) in errors.items())
