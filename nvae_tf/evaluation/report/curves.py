"""The curves of report.py's page: training as TensorBoard and metrics.jsonl have it, and its speed."""

import math
import statistics

import numpy as np

from nvae_tf.evaluation.heat_map import heat_map
from nvae_tf.evaluation.report import charts
from nvae_tf.evaluation.report.axes import format_number
from nvae_tf.evaluation.report.page import cards, figure, legend, missing, number, paragraph, picture, table

# Title, tag in TensorBoard or None, key in metrics.jsonl or None, unit, whether by the logarithm.
_CURVES = (
    ("NELBO", "train/nelbo", "nelbo", "nats", False),
    ("Held-out NELBO", None, "nelbo_bits_per_dim", "bits/dim", False),
    ("Reconstruction, −log p(x | z)", "train/reconstruction", "reconstruction", "nats", False),
    ("KL", "train/kl", "kl", "nats", False),
    ("Active latent channels", "active_units/total", "active_units", "channels", False),
    ("Objective", "train/loss", None, "nats", False),
    ("Weight of the KL", "schedule/kl_weight", None, "", False),
    ("Learning rate", "schedule/learning_rate", None, "", False),
    ("Norm of the gradient", "train/gradient_norm", None, "", True),
    ("Spectral regularisation", "train/spectral", None, "", False),
    ("Batch-norm regularisation", "train/batch_norm", None, "", False),
    ("Weight of the regularisation", "schedule/regularization", None, "", False),
    ("Loss scale", "schedule/loss_scale", None, "", True),
    ("Steps left out", "train/skip_rate", None, "share", False),
    ("Speed", "train/images_per_second", None, "images/s", False),
)


def _number(value):
    return float(value) if isinstance(value, (int, float)) else math.nan


def _series(report, tag, key):
    """The lines of a chart that have anything to draw."""
    series = []
    if tag:
        points = [(scalar.step, scalar.value) for scalar in report.scalars.get(tag, ())]
        if tag == "train/images_per_second":
            points = [(step, value) for step, value in points if value > 0]  # 0: nothing was measured
        series.append(charts.Series("training", points))
    if key:
        split = report.rows[-1].get("split", "held out") if report.rows else "held out"
        series.append(charts.Series(split, [(row["step"], _number(row.get(key))) for row in report.rows], style=1))
    return [one for one in series if one.finite]


def _caption(series, unit):
    """The last and the least value of each line, for those who want the number."""
    parts = []
    for one in series:
        last, (step, least) = one.finite[-1], min(one.finite, key=lambda point: (point[1], -point[0]))
        text = f"{one.name}: {format_number(last[1])} at step {last[0]:,}"
        parts.append(text if step == last[0] else f"{text}, least {format_number(least)} at {step:,}")
    return "; ".join(parts) + (f" ({unit})" if unit else "") + "."


def curves(report):
    """Charts of all that changed in training, and a line for what did not."""
    figures, constant = [], []
    for title, tag, key, unit, logarithmic in _CURVES:
        series = _series(report, tag, key)
        values = {value for one in series for _, value in one.finite}
        if not series:
            continue
        if len(values) == 1 and not key and len(series[0].finite) > 1:
            constant.append(f"{title.lower()} {format_number(values.pop())}")
            continue
        label = f"{title} by step. {_caption(series, unit)}"
        drawing = charts.line_chart(series, label, unit, logarithmic=logarithmic)
        figures.append(figure(legend(series) + drawing, _caption(series, unit), title))
    if not figures:
        return missing(
            "No curves: neither TensorBoard files nor metrics.jsonl. They come with training:",
            report.command("train", "--config=configs/NAME.py"),
        )
    constants = paragraph(f"The same throughout: {', '.join(constant)}.", "quiet") if constant else ""
    return constants + cards(figures)


def kl_over_time(report):
    """A list of the heat map of the groups' KL over the evaluations, or of nothing where there are not two."""
    rows = [row for row in report.rows if isinstance(row.get("kl_per_group"), list)]
    history = [[_number(kl) for kl in row["kl_per_group"]] for row in rows]
    if len(history) < 2 or len({len(kl) for kl in history}) > 1:
        return []
    highest = format_number(float(np.nanmax(history)))
    alt = f"Heat map of the KL of {len(history[0])} groups over {len(history)} evaluations"
    caption = (
        f"A row for each group, coarsest first; a column for each evaluation, steps {rows[0]['step']:,} to "
        f"{rows[-1]['step']:,}. Dark is 0, light the highest, {highest} nats."
    )
    return [
        figure(
            picture(heat_map(np.transpose(history), cell=4), alt), caption, "KL of each group over the training", "heat"
        )
    ]


def _seconds(report):
    """Seconds between the first and the last line of each start of the run, added up."""
    files = {}
    for scalar in report.scalars.get("train/loss", ()):
        first, _ = files.get(scalar.file, (scalar.time, None))
        files[scalar.file] = first, scalar.time
    return sum(last - first for first, last in files.values())


def _duration(seconds):
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def speed(report):
    """Images per second of the training, and how long it took."""
    rates = [scalar.value for scalar in report.scalars.get("train/images_per_second", ()) if scalar.value > 0]
    if not rates:
        return missing("No speed was logged. To measure it:", report.command("benchmark").split(" --run_dir")[0])
    rows = [
        ["Images per second, median", number(statistics.median(rates), 1), "images/s"],
        ["Images per second, lowest and highest", f"{min(rates):,.1f} – {max(rates):,.1f}", "images/s"],
        ["Time between the first and the last line of the log", _duration(_seconds(report)), ""],
    ]
    return table(["", ">training", "unit"], rows, "All replicas together, as logged in training")
