"""Runs side by side: their figures as a table, and the page of tools/compare.py."""

import dataclasses
import math
import textwrap

import numpy as np

from nvae_tf import hierarchy
from nvae_tf.evaluation.report.page import template
from nvae_tf.evaluation.report.tables import Table, number

_CELL_WIDTH = 24  # of the table in a terminal, in characters


@dataclasses.dataclass
class Entry:
    """A run in a comparison.

    Attributes:
        name: how the run is called in the comparison.
        config: `Config`.
        step: step of the checkpoint.
        loss: the last value of it that training logged, nats; None without a log.
        evaluation: dict of the fields of a `LikelihoodResult`.
        parameters: number of trained parameters.
        images_per_second: median of the training, all replicas together; None without a log.
        draw_seconds: time to draw 64 images, without that of tracing.
        samples, reconstructions: uint8 grids.
    """

    name: str
    config: object
    step: int
    loss: float | None
    evaluation: dict
    parameters: int
    images_per_second: float | None
    draw_seconds: float
    samples: np.ndarray
    reconstructions: np.ndarray

    @property
    def objective(self):
        """What training minimised, in words, with the stage if only a part of the model was trained."""
        stage = self.config.train.stage
        return self.config.model.objective + ("" if stage == "joint" else f" (only the terms of stage {stage!r})")

    @property
    def latents(self):
        """Texts of the latents of each level, coarsest first."""
        return [
            f"{count} of {' × '.join(map(str, shape))}" + " values" * (len(shape) == 1)
            for _, count, shape in hierarchy.latents_by_level(self.config.model)
        ]

    def nats(self, name):
        """A figure of the evaluation with its standard error, nats, as text."""
        value, error = self.evaluation[name], self.evaluation[f"{name}_standard_error"]
        known = error is not None and math.isfinite(error)
        return f"{number(value)} ± {number(error)}" if known else number(value)

    def bits(self, name):
        """A figure of the evaluation in bits per dimension, as text."""
        return number(self.evaluation[name] / (hierarchy.num_outputs(self.config.model) * math.log(2.0)), 4)


def figures(entries):
    """`Table` with a row for each figure and a column for each `Entry`."""
    num_samples = entries[0].evaluation["num_samples"]
    bound = f"−log p(x), bound with K = {num_samples:,}"
    rows = [
        ["Family", *(entry.config.model.family for entry in entries)],
        ["Likelihood", *(entry.config.model.likelihood.replace("_", " ") for entry in entries)],
        ["Objective", *(entry.objective for entry in entries)],
        ["Step", *(f"{entry.step:,}" for entry in entries)],
        ["Objective, last logged, nats", *(number(entry.loss) for entry in entries)],
        ["NELBO, nats", *(entry.nats("nelbo") for entry in entries)],
        ["NELBO, bits/dim", *(entry.bits("nelbo") for entry in entries)],
        [f"{bound}, nats", *(entry.nats("nll_bound") for entry in entries)],
        [f"{bound}, bits/dim", *(entry.bits("nll_bound") for entry in entries)],
        ["Parameters", *(number(entry.parameters, 0) for entry in entries)],
    ]
    for level in range(max(len(entry.latents) for entry in entries)):
        cells = [entry.latents[level] if level < len(entry.latents) else "" for entry in entries]
        rows.append([f"Latents, level {level}" + (" (coarsest)" if not level else ""), *cells])
    shapes = [hierarchy.latent_shapes(entry.config.model) for entry in entries]
    rows += [
        ["Latents, values in all", *(number(sum(map(math.prod, one)), 0) for one in shapes)],
        ["Training, images/s", *(number(entry.images_per_second, 1) for entry in entries)],
        ["Seconds to draw 64", *(number(entry.draw_seconds) for entry in entries)],
    ]
    data, count = entries[0].config.data.dataset, entries[0].evaluation["num_images"]
    caption = f"{data} {entries[0].evaluation['split']}: {count:,} images"
    return Table(caption, ["", *(entry.name for entry in entries)], rows)


def incomparable(entries):
    """Sentences on likelihoods that do not compare with those of the other entries."""
    sentences = [
        f"{entry.name}: its likelihood is normal, a density of the values and no probability of their levels, so its "
        "nats and bits/dim do not compare with the others'."
        for entry in entries
        if entry.config.model.likelihood == "normal"
    ]
    depths = {}
    for entry in entries:
        if not entry.config.data.binarize:
            depths.setdefault(entry.config.model.bit_depth, []).append(entry.name)
    if len(depths) > 1:
        which = "; ".join(f"{bits} bits: {', '.join(names)}" for bits, names in sorted(depths.items()))
        sentences.append(f"Images of another bit depth are other images, whose likelihoods do not compare ({which}).")
    return sentences


def as_text(table):
    """A `Table` for a terminal: cells are wrapped."""
    first = max(len(row[0]) for row in table.rows)
    lines = [table.caption]
    for name, *cells in [table.header, *table.rows]:
        wrapped = [textwrap.wrap(cell, _CELL_WIDTH) for cell in cells]
        for place in range(max(1, *map(len, wrapped))):
            parts = (cell[place] if place < len(cell) else "" for cell in wrapped)
            line = f"{'' if place else name:<{first}}" + "".join(f"  {part:>{_CELL_WIDTH}}" for part in parts)
            lines.append(line.rstrip())
    return "\n".join(lines)


def render(entries, captions, made_from):
    """The text of the page.

    Args:
        entries: list of `Entry`.
        captions: of the grids of samples and of reconstructions.
        made_from: a sentence that says when and from what the page was made.
    """
    return template("comparison.html").render(
        entries=entries,
        figures=figures(entries),
        incomparable=incomparable(entries),
        captions=captions,
        made_from=made_from,
    )
