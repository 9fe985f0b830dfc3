"""The sections of report.py's page, as HTML; one that has nothing to show names the command that would fill it."""

import dataclasses
import pathlib

from nvae_tf import hierarchy
from nvae_tf.evaluation.report import charts
from nvae_tf.evaluation.report.curves import curves, kl_over_time, speed
from nvae_tf.evaluation.report.data import figure_of
from nvae_tf.evaluation.report.page import (
    cards,
    details,
    figure,
    key_figures,
    missing,
    number,
    page,
    paragraph,
    picture,
    plain,
    table,
)


def top(report):
    """The key figures."""
    evaluation, figures = report.evaluation, []
    last = evaluation or (report.rows[-1] if report.rows else None)
    source = (last or {}).get("split", "held out")
    bound, draws = figure_of(evaluation, "nll_bound"), figure_of(evaluation, "num_samples")
    if None not in (bound, draws) and draws > 1:
        figures.append((f"−log p(x), K = {int(draws):,}, {source}", number(bound), "nats"))
    for name, label, unit, digits in (
        ("nelbo", "NELBO", "nats", 2),
        ("nelbo_bits_per_dim", "NELBO", "bits/dim", 4),
        ("kl", "KL", "nats", 2),
    ):
        value = figure_of(last, name)
        if value is not None:
            figures.append((f"{label}, {source}", number(value, digits), unit))
    if figure_of(report.fid, "fid") is not None:
        figures.append(("FID", number(report.fid["fid"]), ""))
    figures.append(("Parameters", f"{report.parameters / 1e6:.3g}", "million"))
    figures.append(("Latent groups", str(hierarchy.num_groups(report.config.model)), ""))
    return key_figures(figures)


def samples(report):
    """Grids of samples at several temperatures."""
    if not report.samples:
        return missing("No checkpoint to draw from. Train:", report.command("train", "--config=configs/NAME.py"))
    figures = []
    for temperature, image, readjusted in report.samples:
        alt = f"{report.num_samples} samples at temperature {temperature:g}"
        note = "with batch-norm statistics readjusted at it" if readjusted else "with the checkpoint's batch norm"
        caption = f"{report.num_samples} images {note}."
        figures.append(figure(picture(image, alt), caption, f"Temperature {temperature:g}", _smoothness(report)))
    text = (
        "Means of p(x | z), z drawn from the prior with its scale times the temperature. Place by place the noise is "
    )
    text += "the same in all grids."
    content = paragraph(text, "quiet") + cards(figures, "wide")
    if not all(readjusted for _, _, readjusted in report.samples):
        content += missing("Readjusted statistics are made by", report.command("readjust_bn", "--temperature=0.7"))
    return content


def _smoothness(report):
    # Small images are shown pixel by pixel; large ones are shrunk, which must be smooth.
    return "smooth" if report.config.model.image_height > 64 else ""


def reconstructions(report):
    """Originals beside their reconstructions, and ways from one image to another."""
    if report.step is None:
        return missing("No checkpoint. Train:", report.command("train", "--config=configs/NAME.py"))
    pairs, ways = report.reconstructions, report.interpolations
    figures = []
    if pairs is not None:
        alt = "Pairs of an original and, to its right, its reconstruction"
        figures.append(figure(picture(pairs[0], alt), pairs[1], "Reconstructions", _smoothness(report)))
    if ways is not None:
        alt = "Rows of images that go from one to another"
        figures.append(figure(picture(ways[0], alt), ways[1], "Interpolations", _smoothness(report)))
    needed = missing(report.no_images, report.command("report", "--data_dir=FOLDER")) if pairs is None else ""
    return needed + cards(figures, "wide")


def likelihood(report):
    """The table of evaluation.json."""
    values = report.evaluation
    if not values:
        return missing(
            "Not evaluated. The figures are made by",
            report.command("evaluate", "--data_dir=FOLDER", "--num_samples=100"),
        )
    rows = []
    for label, name, bits in (
        ("NELBO", "nelbo", "nelbo_bits_per_dim"),
        (f"−log p(x), bound with K = {values.get('num_samples', '?')}", "nll_bound", "bound_bits_per_dim"),
        ("−log p(x | z), reconstruction", "reconstruction", None),
        ("KL", "kl", None),
    ):
        nats = figure_of(values, name, -1.0 if name == "reconstruction" else 1.0)
        error = figure_of(values, f"{name}_standard_error")
        per_dim = number(figure_of(values, bits), 4) if bits else ""
        if nats is not None:
            rows.append([label, number(nats, 3), "" if error is None else f"± {number(error, 3)}", per_dim])
    images = figure_of(values, "num_images")
    weights = "moving average of the weights" if values.get("ema") else "weights as trained"
    caption = f"{values.get('dataset', 'data set')} {values.get('split', '')}: {number(images, 0)} images, "
    caption += f"step {number(figure_of(values, 'step'), 0)}, {weights}"
    warning = ""
    if report.step is not None and values.get("step") not in (None, report.step):
        warning = paragraph(f"Of another checkpoint than the page's, which is of step {report.step:,}.", "quiet")
    header = ["", ">nats", ">standard error", ">bits/dim"]
    return warning + table(header, rows, caption)


def _group_figures(report):
    """(KL of each group, active channels of each group, where from) of the best source there is, or None."""
    num_groups = hierarchy.num_groups(report.config.model)
    sources = []
    if report.evaluation:
        values = report.evaluation
        origin = f"evaluation.json: {values.get('split', '')} images, step {values.get('step')}"
        sources.append((values.get("kl_per_group"), values.get("active_units"), origin))
    if report.rows:
        row = report.rows[-1]
        origin = f"metrics.jsonl: {row.get('split', '')} images, step {row.get('step')}"
        sources.append((row.get("kl_per_group"), row.get("active_units_per_group"), origin))
    logged = [report.scalars.get(f"kl_per_group/{group:02d}") for group in range(num_groups)]
    active = [report.scalars.get(f"active_units/{group:02d}") for group in range(num_groups)]
    if all(logged) and all(active):
        origin = f"TensorBoard: the training batch of step {logged[0][-1].step}"
        sources.append(([s[-1].value for s in logged], [int(s[-1].value) for s in active], origin))
    for kl, units, origin in sources:
        if all(isinstance(one, list) and len(one) == num_groups and None not in one for one in (kl, units)):
            return kl, units, origin
    return None


def groups(report):
    """KL and active channels of each group, as bars and as a table, and over the training."""
    found = _group_figures(report)
    if found is None:
        return missing("No KL of the groups yet. It is made by", report.command("evaluate", "--data_dir=FOLDER"))
    kl, active, origin = found
    model = report.config.model
    scales = [scale for scale in hierarchy.scales(model) if scale.num_groups]
    bands = [(f"{scale.height} × {scale.width}", scale.num_groups) for scale in scales]
    notes = [f"{units:g}/{model.latent_channels}" for units in active]
    label = f"Bars of the KL of {len(kl)} latent groups, from {min(kl):.2f} to {max(kl):.2f} nats"
    bars = charts.bar_chart(kl, label, "nats", [f"{note} active" for note in notes], bands)
    caption = f"Groups in generation order, coarsest first; below, the size of their latents. From {origin}."
    figures = [figure(bars, caption, "KL of each group")]
    figures.append(
        figure(
            charts.bar_chart(active, label="Active channels of each group", unit="channels", bands=bands),
            f"Of {model.latent_channels} latent channels; an active one "
            "has more KL than a threshold, on average over the images.",
            "Active channels of each group",
        )
    )
    figures += kl_over_time(report)
    rows = [
        [
            str(group),
            f"{scale.height} × {scale.width}",
            number(value, 3),
            f"{100 * value / max(sum(kl), 1e-9):.1f} %",
            note,
        ]
        for group, (scale, value, note) in enumerate(zip(hierarchy.group_scales(model), kl, notes, strict=True))
    ]
    header = ["group", ">latents", ">KL, nats", ">of all KL", ">active channels"]
    return cards(figures, "wide") + details("The same as a table", table(header, rows, "KL and active channels"))


_FID_FIGURES = {
    "fid": "FID",
    "kid": "KID",
    "kid_std": "KID, standard deviation over subsets",
    "precision": "Precision",
    "recall": "Recall",
}


def fid(report):
    """The figures of fid.json, whichever there are, and what they depend on."""
    if not report.fid:
        return missing(
            "Not measured. The figures are made by", report.command("fid", "--data_dir=FOLDER", "--inception=FILE")
        )
    found = {name: figure_of(report.fid, name) for name in _FID_FIGURES}
    rows = [[_FID_FIGURES[name], f"{value:.5g}"] for name, value in found.items() if value is not None]
    others = [[name, plain(value)] for name, value in report.fid.items() if name not in _FID_FIGURES]
    caption = f"{number(figure_of(report.fid, 'num_samples'), 0)} samples"
    if report.fid.get("split"):
        caption += f" against the {report.fid['split']} images of {report.fid.get('dataset', 'the data set')}"
    if report.step is not None and report.fid.get("step") not in (None, report.step):
        caption += f"; of another checkpoint than the page's, step {report.fid['step']}"
    content = table(["figure", ">value"], rows, caption)
    return content + details("What they depend on", table(["setting", ">value"], others, "Settings of fid.json"))


def model(report):
    """Parameters of the model's parts, and its scales."""
    rows = [[part, number(count, 0), number(kept, 0)] for part, (count, kept) in report.counts.items()]
    rows.append(["in all", number(report.parameters, 0), number(sum(kept for _, kept in report.counts.values()), 0)])
    parts = table(["part", ">parameters", ">batch-norm statistics"], rows, "Numbers in the model")
    shape, rows = report.config.model, []
    for scale in hierarchy.scales(shape):
        size = scale.num_groups * scale.height * scale.width * shape.latent_channels
        latents = f"{scale.height} × {scale.width} × {shape.latent_channels}"
        widths = [str(scale.encoder_channels), str(scale.decoder_channels)]
        rows.append([str(scale.index), str(scale.num_groups), latents, number(size, 0), *widths])
    header = ["scale", ">groups", ">latents of a group", ">latents in all", ">encoder channels", ">decoder channels"]
    return parts + "<br>" + table(header, rows, "Scales, coarsest first")


def configuration(report):
    """The tables of the configuration."""
    tables = []
    for part in ("model", "data", "train"):
        values = dataclasses.asdict(getattr(report.config, part))
        rows = [[name, plain(value)] for name, value in values.items()]
        tables.append(f'<div class="card">{table([part, ">value"], rows)}</div>')
    return cards(tables)


def render(report, made_from):
    """The text of the page.

    Args:
        report: `Report`.
        made_from: sentence that says when and from what it was made.
    """
    sections = [
        ("samples", "Samples", samples(report)),
        ("reconstructions", "Reconstructions and interpolations", reconstructions(report)),
        ("likelihood", "Likelihood", likelihood(report)),
        ("groups", "Latent groups", groups(report)),
        ("fid", "Quality of samples", fid(report)),
        ("curves", "Training", curves(report)),
        ("speed", "Speed", speed(report)),
        ("model", "Model", model(report)),
        ("configuration", "Configuration", configuration(report)),
    ]
    title = f"NVAE on {report.config.data.dataset}"
    subtitle = f"Run {pathlib.Path(report.run_dir).resolve().name}; {report.checkpoint}."
    return page(title, subtitle, top(report), sections, paragraph(made_from))
