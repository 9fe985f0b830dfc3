"""The contents of a report."""

import dataclasses
import shlex

from nvae_tf.checkpoint.figures import weights_in_words


@dataclasses.dataclass
class Report:
    """The contents of a report; what is None or empty is missing from the run folder.

    Attributes:
        run_dir: path of the run folder as text, for the commands on the page.
        config: `Config`.
        step: step of the checkpoint.
        averaged: whether the weights are the moving average.
        counts: `{part: (parameters, statistics)}` of the model's parts.
        rows: rows of metrics.jsonl.
        scalars: `{tag: list of Scalar}` of the TensorBoard files.
        evaluation, fid: contents of evaluation.json and fid.json.
        changes: changes of the images that training accepted, from data.json.
        samples: list of (temperature, uint8 grid, whether batch norm was readjusted for it, or None without).
        num_samples: number of images in each grid.
        reconstructions, interpolations: (uint8 grid, caption).
        no_images: why there are no reconstructions.
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
    changes: list = dataclasses.field(default_factory=list)
    samples: list = dataclasses.field(default_factory=list)
    num_samples: int = 0
    reconstructions: tuple | None = None
    interpolations: tuple | None = None
    no_images: str = ""

    @property
    def checkpoint(self):
        """Describes the checkpoint in words."""
        if self.step is None:
            return "no checkpoint"
        return f"checkpoint of step {self.step:,}, {weights_in_words(self.averaged)}"

    @property
    def parameters(self):
        """Number of trained parameters."""
        return sum(parameters for parameters, _ in self.counts.values())

    def command(self, tool, *flags):
        """Command line of one of the repository's programs for this run."""
        return " ".join([f"python tools/{tool}.py", f"--run_dir={shlex.quote(self.run_dir)}", *flags])
