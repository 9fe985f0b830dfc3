"""What report.py puts on its page."""

import dataclasses
import shlex


@dataclasses.dataclass
class Report:
    """What the page is made of; what is None, or empty, is not there.

    Attributes:
        run_dir: the run's folder as text, for the commands.
        config: `Config`.
        step: of the checkpoint.
        averaged: whether the weights are the moving average.
        counts: `{part: (parameters, statistics)}` of the model's parts.
        rows: lines of metrics.jsonl.
        scalars: `{tag: list of Scalar}` of the TensorBoard files.
        evaluation, fid: dicts of evaluation.json and fid.json.
        samples: list of (temperature, uint8 grid, whether with readjusted batch-norm statistics).
        num_samples: images in each grid.
        reconstructions, interpolations: (uint8 grid, caption), or None.
        no_images: why there are none of them.
    """

    run_dir: str
    config: object
    step: int | None = None
    averaged: bool = False
    counts: dict = dataclasses.field(default_factory=dict)
    rows: list = dataclasses.field(default_factory=list)
    scalars: dict = dataclasses.field(default_factory=dict)
    evaluation: dict | None = None
    fid: dict | None = None
    samples: list = dataclasses.field(default_factory=list)
    num_samples: int = 0
    reconstructions: tuple | None = None
    interpolations: tuple | None = None
    no_images: str = ""

    @property
    def weights(self):
        """Which weights, in words."""
        return "moving average of the weights" if self.averaged else "weights as trained"

    @property
    def checkpoint(self):
        """Which checkpoint, in words."""
        return "no checkpoint" if self.step is None else f"checkpoint of step {self.step:,}, {self.weights}"

    def command(self, tool, *flags):
        """A command of the repository's programs for this run."""
        return " ".join([f"python tools/{tool}.py", f"--run_dir={shlex.quote(self.run_dir)}", *flags])

    @property
    def parameters(self):
        """Trained parameters in all."""
        return sum(parameters for parameters, _ in self.counts.values())


def figure_of(values, name, scale=1.0):
    """A number of a JSON dict, or None where it is not there or no number."""
    value = (values or {}).get(name)
    return scale * value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
