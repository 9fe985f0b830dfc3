"""The page of a report: HTML that needs no other file, no network and no script."""

import base64
import datetime
import importlib.metadata
import io
import pathlib

import jinja2

from nvae_tf.evaluation.report import curves, tables
from nvae_tf.evaluation.write_images import to_pillow


def _png(image):
    """Base64 of the PNG of a uint8 image [H, W, 1 or 3]."""
    file = io.BytesIO()
    to_pillow(image).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def made_from(source, seed):
    """A sentence that says when a page was made, from what, with what noise, and by which versions."""
    now = datetime.datetime.now(datetime.UTC)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("nvae_tf", "tensorflow", "keras")]
    return f"Made on {now:%Y-%m-%d at %H:%M} UTC from {source}; seed {seed}. {', '.join(versions)}."


def template(name):
    """A page of this folder, which has the filter `png`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = _png
    return environment.get_template(name)


def render(report, made_from):
    """Renders a `Report`, with a sentence that says when and from what it was made, as the text of the page."""
    figures, constant = curves.curves(report)
    return template("page.html").render(
        report=report,
        made_from=made_from,
        run_name=pathlib.Path(report.run_dir).resolve().name,
        key_figures=tables.key_figures(report),
        likelihood=tables.likelihood(report),
        groups=tables.groups(report),
        fid=tables.fid(report),
        model=tables.model(report),
        configuration=tables.configuration(report),
        curves=figures,
        constant=constant,
        kl_over_time=curves.kl_over_time(report),
        speed=curves.speed(report),
    )
