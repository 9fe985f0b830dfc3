"""The four parts of check_tflite.py: what each looks at, and whether it passes, fails or is not shown."""

import collections
import dataclasses
import enum

from nvae_tf.export.parity import TOLERANCES
from nvae_tf.export.tflite.check import half_audit
from nvae_tf.export.tflite.check import lint as tflite_lint
from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.export.tflite.check.reference import golden_case, keras_case
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph

GPU_TOLERANCE = 1e-3
HALF_TOLERANCE = 2e-2


class Status(enum.Enum):
    """Of a part."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_SHOWN = "NOT SHOWN"


@dataclasses.dataclass(frozen=True)
class Part:
    """What became of a part of the gate.

    Attributes:
        name: "lint", "gpu", "keras" or "half".
        status: `Status`.
        reason: one line: the figures, or what is wrong or missing.
        details: further lines, the most important first. Default none.
    """

    name: str
    status: Status
    reason: str
    details: tuple = ()


@dataclasses.dataclass(frozen=True)
class Gate:
    """The checks of one file.

    Args:
        path: of the .tflite file.
        run_dir: run whose Keras model the file should agree with; None for none. Default None.
        step: of the run's checkpoint; None for the latest. Default None.
        ema: use the moving average of the run's weights. Default True.
        bn_temperature: of readjusted batch-norm statistics; None for the run's own. Default None.
        reference: sidecar decoder.json whose golden numbers it should agree with; None for none. Default None.
        num_draws: random inputs of "gpu" and "keras". Default 4.
        num_audit_draws: random inputs of "half". Default 32.
        seed: of the draws. Default 0.
    """

    path: str
    run_dir: str | None = None
    step: str | None = None
    ema: bool = True
    bn_temperature: float | None = None
    reference: str | None = None
    num_draws: int = 4
    num_audit_draws: int = 32
    seed: int = 0

    def parts(self):
        """Generator of the `Part`s, each as soon as it is known."""
        with open(self.path, "rb") as file:
            content = file.read()
        try:
            graph = TFLiteGraph(content)
        except ValueError as error:
            yield Part("lint", Status.FAIL, str(error))
            for name in ("gpu", "keras", "half"):
                yield Part(name, Status.NOT_SHOWN, "the file cannot be read")
            return
        yield self._lint(graph)
        for name, check in (("gpu", self._gpu), ("keras", self._keras), ("half", self._half)):
            try:
                yield check(graph)
            except tflite_run.NotAvailable as error:
                yield Part(name, Status.NOT_SHOWN, str(error))
            except tflite_run.RunFailed as error:
                yield Part(name, Status.FAIL, str(error))

    def _lint(self, graph):
        findings = tflite_lint.lint(graph)
        ops = collections.Counter(map(graph.op_name, graph.operators))
        if findings:
            return Part("lint", Status.FAIL, f"{len(findings)} findings", tuple(map(str, findings)))
        return Part("lint", Status.PASS, f"{ops.total()} ops of {len(ops)} kinds, all on the list")

    def _gpu(self, graph):
        inputs = tflite_run.draws(graph, self.num_draws, self.seed)
        cpu = tflite_run.run(self.path, graph, inputs, "cpu")
        gpu = tflite_run.run(self.path, graph, inputs, "gpu")
        if not gpu.accelerated:
            return Part("gpu", Status.FAIL, "not every op runs on the delegate")
        return _agreement("gpu", gpu.outputs, cpu.outputs, GPU_TOLERANCE, "the CPU", "every op accelerated; ")

    def _keras(self, graph):
        tolerance = TOLERANCES["float16" if _has_half_weights(graph) else "float32"]
        if self.run_dir is None and self.reference is None:
            return Part("keras", Status.NOT_SHOWN, "expected --run_dir or --reference. Received: neither")
        tflite_run.check_runtime()
        try:
            if self.run_dir is not None:
                import nvae_tf

                nvae = nvae_tf.load_run(self.run_dir, self.step, self.ema, self.bn_temperature)
                source = self.run_dir
                inputs, expected = keras_case(nvae, graph, self.num_draws, self.seed)
            else:
                source = self.reference
                inputs, expected = golden_case(self.reference, self.path, graph)
        # CheckpointError and ConfigError are ValueErrors.
        except ValueError as error:
            return Part("keras", Status.FAIL, str(error))
        received = tflite_run.run(self.path, graph, inputs, "cpu").outputs
        unknown = sorted(set(received) - set(expected))
        if unknown:
            return Part("keras", Status.FAIL, f"{unknown[0]}: expected an output of {source}. Received: another")
        return _agreement("keras", received, expected, tolerance, source)

    def _half(self, graph):
        inputs = tflite_run.draws(graph, self.num_audit_draws, self.seed, temperatures=(1.0, 1.0))
        audit = half_audit.audit(self.path, graph, inputs)
        worst = max(audit.errors, key=lambda name: audit.errors[name][0])
        largest, mean = audit.errors[worst]
        top, risks = audit.magnitudes[0], len(audit.at_risk)
        reason = (
            f"largest number of {self.num_audit_draws} draws {top.largest:.4g}, {top.margin:.3g} times below fp16's "
            f"({risks} at risk); all rounded, {worst} at most {largest:.1e} off (tolerance {HALF_TOLERANCE:.0e}), "
            f"{mean:.1e} on average"
        )
        status = Status.PASS if not risks and largest <= HALF_TOLERANCE else Status.FAIL
        return Part("half", status, reason, (*_lines(audit.errors), *map(str, audit.magnitudes)))


def _has_half_weights(graph):
    return any(graph.dtype(index) == "FLOAT16" for index in range(len(graph.subgraph.tensors)))


def _agreement(name, received, expected, tolerance, source, before=""):
    errors = {output: half_audit.relative_error(value, expected[output]) for output, value in received.items()}
    worst = max(errors, key=lambda output: errors[output][0])
    reason = f"{before}{worst} at most {errors[worst][0]:.1e} off {source} (tolerance {tolerance:.0e})"
    return Part(name, Status.PASS if errors[worst][0] <= tolerance else Status.FAIL, reason, _lines(errors))


def _lines(errors):
    return tuple(f"{output}: largest {most:.1e}, mean {mean:.1e}" for output, (most, mean) in errors.items())
