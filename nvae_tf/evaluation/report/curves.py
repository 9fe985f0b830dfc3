"""The curves of a report: training as TensorBoard and metrics.jsonl recorded it, and its speed."""

import math
import statistics

import numpy as np

from nvae_tf.evaluation.heat_map import heat_map
from nvae_tf.evaluation.report.charts import Series, format_number, line_chart
from nvae_tf.evaluation.report.tables import Table, number

# Title, TensorBoard tag or None, key in metrics.jsonl or None, unit, whether the axis is logarithmic.
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
    ("Skipped steps", "train/skip_rate", None, "share", False),
    ("Speed", "train/images_per_second", None, "images/s", False),
)


def _number(value):
    return float(value) if isinstance(value, (int, float)) else math.nan


def _rates(report):
    """The scalars of the training speed; 0 means that nothing was measured."""
    return [scalar for scalar in report.scalars.get("train/images_per_second", ()) if scalar.value > 0]


def _series(report, tag, key):
    """The lines of a chart, without those that have nothing to draw."""
    scalars = _rates(report) if tag == "train/images_per_second" else report.scalars.get(tag, ())
    split = report.rows[-1].get("split", "held out") if report.rows else "held out"
    rows = report.rows if key else ()
    series = (
        Series("training", [(scalar.step, scalar.value) for scalar in scalars]),
        Series(split, [(row["step"], _number(row.get(key))) for row in rows], style=1),
    )
    return [one for one in series if one.finite]


def _caption(series, unit):
    """The last and the lowest value of each line."""
    parts = []
    for one in series:
        last, (step, lowest) = one.finite[-1], min(one.finite, key=lambda point: (point[1], -point[0]))
        text = f"{one.name}: {format_number(last[1])} at step {last[0]:,}"
        parts.append(text if step == last[0] else f"{text}, lowest {format_number(lowest)} at {step:,}")
    return "; ".join(parts) + (f" ({unit})" if unit else "") + "."


def curves(report):
    """Returns a list of charts, which are dicts, and a list of texts about what stayed constant."""
    figures, constant = [], []
    for title, tag, key, unit, logarithmic in _CURVES:
        series = _series(report, tag, key)
        values = {value for one in series for _, value in one.finite}
        if len(values) == 1 and not key and len(series[0].finite) > 1:
            constant.append(f"{title.lower()} {format_number(values.pop())}")
        elif series:
            caption = _caption(series, unit)
            chart = line_chart(series, f"{title} by step. {caption}", unit, logarithmic)
            figures.append({"title": title, "series": series, "chart": chart, "caption": caption})
    return figures, constant


def kl_over_time(report):
    """(heat map, alternative text, caption) of the groups' KL over the evaluations; None with fewer than two."""
    rows = [row for row in report.rows if isinstance(row.get("kl_per_group"), list)]
    history = [[_number(kl) for kl in row["kl_per_group"]] for row in rows]
    if len(history) < 2 or len({len(kl) for kl in history}) > 1:
        return None
    highest = format_number(float(np.nanmax(history)))
    caption = (
        f"A row for each group, coarsest first; a column for each evaluation, steps {rows[0]['step']:,} to "
        f"{rows[-1]['step']:,}. Dark is 0, light the highest, {highest} nats."
    )
    alt = f"Heat map of the KL of {len(history[0])} groups over {len(history)} evaluations"
    return heat_map(np.transpose(history), cell=4), alt, caption


def _duration(report):
    """Time between the first and the last entry of each log file, summed over the files, as text."""
    files = {}
    for scalar in report.scalars.get("train/loss", ()):
        files.setdefault(scalar.file, []).append(scalar.time)
    seconds = sum(times[-1] - times[0] for times in files.values())
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def speed(report):
    """`Table` of the training's images per second and of how long it took; None if none were logged."""
    rates = [scalar.value for scalar in _rates(report)]
    if not rates:
        return None
    rows = [
        ["Images per second, median", f"{number(statistics.median(rates), 1)} images/s"],
        ["Images per second, lowest and highest", f"{min(rates):,.1f} – {max(rates):,.1f} images/s"],
        ["Time between the first and the last entry of the log", _duration(report)],
    ]
    return Table("All replicas together, as logged in training", ["", "training"], rows)
