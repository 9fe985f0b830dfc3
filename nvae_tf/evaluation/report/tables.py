"""The figures and tables of a report."""

import dataclasses
import math
import typing

from nvae_tf import hierarchy
from nvae_tf.checkpoint.figures import weights_in_words
from nvae_tf.evaluation.report.charts import bar_chart


class Table(typing.NamedTuple):
    """A table whose first column names the rows and whose other columns are numbers, all of them texts."""

    caption: str
    header: list
    rows: list


def number(value, digits=2):
    """A number with thousands separated and a fixed number of decimals; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def _setting(value):
    """A setting as text; a list of equal values is shown as one of them."""
    if isinstance(value, list):
        texts = [_setting(item) for item in value]
        return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def key_figures(report):
    """List of (name, value, unit)."""
    evaluation, figures = report.evaluation or {}, []
    last = evaluation or (report.rows[-1] if report.rows else {})
    source = last.get("split", "held out")
    bound, num_samples = evaluation.get("nll_bound"), evaluation.get("num_samples", 1)
    if bound is not None and num_samples > 1:
        figures.append((f"−log p(x), K = {num_samples:,}, {source}", number(bound), "nats"))
    for name, label, unit, digits in (
        ("nelbo", "NELBO", "nats", 2),
        ("nelbo_bits_per_dim", "NELBO", "bits/dim", 4),
        ("kl", "KL", "nats", 2),
    ):
        value = last.get(name)
        if value is not None:
            figures.append((f"{label}, {source}", number(value, digits), unit))
    if report.fid:
        figures.append(("FID", number(report.fid["fid"]), ""))
    figures.append(("Parameters", f"{report.parameters / 1e6:.3g}", "million"))
    figures.append(("Latent groups", str(len(hierarchy.latent_shapes(report.config.model))), ""))
    return figures


def likelihood(report):
    """`Table` of evaluation.json; None if there is none."""
    values, rows = report.evaluation, []
    if not values:
        return None
    for label, name, bits in (
        ("NELBO", "nelbo", "nelbo_bits_per_dim"),
        (f"−log p(x), bound with K = {values.get('num_samples', '?')}", "nll_bound", "bound_bits_per_dim"),
        ("−log p(x | z), reconstruction", "reconstruction", None),
        ("KL", "kl", None),
    ):
        nats, error = values.get(name), values.get(f"{name}_standard_error")
        if nats is not None:
            nats = -nats if name == "reconstruction" else nats
            per_dim = number(values.get(bits), 4) if bits else ""
            rows.append([label, number(nats, 3), "" if error is None else f"± {number(error, 3)}", per_dim])
    weights = weights_in_words(values.get("ema"))
    images, step = (number(values.get(name), 0) for name in ("num_images", "step"))
    caption = f"{values.get('dataset', 'data set')} {values.get('split', '')}: {images} images, step {step}, {weights}"
    caption += "; not the images of the run" if values.get("run_images") is False else ""
    return Table(caption, ["", "nats", "standard error", "bits/dim"], rows)


def _group_figures(report):
    """(KL, active channels, origin) of the groups from evaluation.json or else metrics.jsonl; None without either."""
    num_groups = len(hierarchy.latent_shapes(report.config.model))
    for file, values, active in (
        ("evaluation.json", report.evaluation, "active_units"),
        ("metrics.jsonl", report.rows[-1] if report.rows else None, "active_units_per_group"),
    ):
        figures = [(values or {}).get(name) for name in ("kl_per_group", active)]
        if all(one is not None and len(one) == num_groups and None not in one for one in figures):
            return *figures, f"{file}: {values.get('split', '')} images, step {values.get('step')}"
    return None


def _size(shape):
    """Height and width of a latent as text; a latent may be a vector."""
    return " × ".join(map(str, shape[:-1])) or "vector"


def groups(report):
    """Dict of two charts, a `Table`, the number of channels and the origin of the figures; None if nothing is known."""
    found = _group_figures(report)
    if found is None:
        return None
    (kl, active, origin), model = found, report.config.model
    shapes = hierarchy.latent_shapes(model)
    bands = [(_size(shape), count) for _, count, shape in hierarchy.latents_by_level(model)]
    notes = [f"{units:g}/{shape[-1]}" for units, shape in zip(active, shapes, strict=True)]
    label = f"Bars of the KL of {len(kl)} latent groups, from {min(kl):.2f} to {max(kl):.2f} nats"
    total, rows = max(sum(kl), 1e-9), []
    for group, (shape, value, note) in enumerate(zip(shapes, kl, notes, strict=True)):
        rows.append([str(group), _size(shape), number(value, 3), f"{100 * value / total:.1f} %", note])
    header = ["group", "latents", "KL, nats", "share of the KL", "active channels"]
    return {
        "kl_chart": bar_chart(kl, label, "nats", bands, [f"{note} active" for note in notes]),
        "active_chart": bar_chart(active, "Bars of the active channels of each group", "channels", bands),
        "table": Table("KL and active channels", header, rows),
        "channels": " to ".join(dict.fromkeys(str(end([shape[-1] for shape in shapes])) for end in (min, max))),
        "origin": origin,
    }


_FID_FIGURES = {
    "fid": "FID",
    "kid": "KID",
    "kid_std": "KID, standard deviation over subsets",
    "precision": "Precision",
    "recall": "Recall",
}


def fid(report):
    """(`Table` of the figures in fid.json, `Table` of its settings); None if there is no fid.json."""
    values = report.fid
    if not values:
        return None
    found = {label: values.get(name) for name, label in _FID_FIGURES.items()}
    caption = f"{number(values.get('num_samples'), 0)} samples"
    if values.get("split"):
        caption += f" against the {values['split']} images of {values.get('dataset', 'the data set')}"
    if report.step is not None and values.get("step") not in (None, report.step):
        caption += f"; from another checkpoint than this page, step {values['step']}"
    rows = [[label, f"{value:.5g}"] for label, value in found.items() if value is not None]
    settings = [[name, _setting(value)] for name, value in values.items() if name not in _FID_FIGURES]
    return Table(caption, ["figure", "value"], rows), Table("Settings of fid.json", ["setting", "value"], settings)


def model(report):
    """`Table`s of the parameters of the model's parts and of its scales."""
    rows = [[part, number(count, 0), number(kept, 0)] for part, (count, kept) in report.counts.items()]
    rows.append(["total", number(report.parameters, 0), number(sum(kept for _, kept in report.counts.values()), 0)])
    parts = Table("Size of the model", ["part", "parameters", "statistics"], rows)
    config, rows = report.config.model, []
    for level, count, shape in hierarchy.latents_by_level(config):
        rows.append([str(level), str(count), " × ".join(map(str, shape)), number(count * math.prod(shape), 0)])
    header = ["scale", "groups", "latents per group", "latents"]
    if config.family == "nvae":
        header += ["encoder channels", "decoder channels"]
        for row, scale in zip(rows, hierarchy.scales(config), strict=True):
            row += [str(scale.encoder_channels), str(scale.decoder_channels)]
    return parts, Table("Scales, coarsest first", header, rows)


def configuration(report):
    """A `Table` for each part of the configuration."""
    parts = dataclasses.asdict(report.config)
    return [
        Table("", [part, "value"], [[name, _setting(value)] for name, value in parts[part].items()])
        for part in ("model", "data", "train")
    ]
