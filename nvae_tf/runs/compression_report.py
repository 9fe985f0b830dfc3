"""Sizes of the same images by this package, by other programs and by the NELBO."""

import io
import math
import pathlib
import tempfile
import time
import typing

import numpy as np
from PIL import Image, features

from nvae_tf.compression.levels import full_scale
from nvae_tf.compression.networks import to_images
from nvae_tf.compression.nvz_file import read_chunks
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.runs.compression import compress, decompress

# Largest side of a picture in WebP.
_MAX_SIDE = 16383


class Row(typing.NamedTuple):
    """One way to store the images: its name, the bytes, and the seconds to write and to read them, or None."""

    name: str
    num_bytes: float
    write_seconds: float | None = None
    read_seconds: float | None = None


def measure(levels, coder, header, out, num_processes, make_progress):
    """Compresses and decompresses images in every way.

    Args:
        levels: uint8 [N, h, w, C].
        coder: `RunCoder`.
        header: `Header`.
        out: .nvz file to keep; None for none.
        num_processes: as for `compress`.
        make_progress: function of a number of images that returns a function of the number done.

    Returns:
        (list of `Row`, `Statistics` of the chunks, N, number of values of an image).
    """
    with tempfile.TemporaryDirectory(prefix="nvae_tf_") as folder:
        path, back = out or pathlib.Path(folder, "images.nvz"), pathlib.Path(folder, "images.npy")
        began = time.monotonic()
        statistics = compress(levels, path, coder, header, False, num_processes, make_progress(len(levels)))
        written = time.monotonic()
        decompress(path, read_chunks(path), back, coder, num_processes, make_progress(len(levels)))
        ours = Row("this program", path.stat().st_size, written - began, time.monotonic() - written)
        if not np.array_equal(np.load(back).reshape(levels.shape), levels * np.uint8(header.scale)):
            raise ValueError(f"{path}: expected the images that were compressed. Received: others")
    size = header.settings.batch_size
    batches = (
        to_images(levels[start : start + size], coder.model.model_config) for start in range(0, len(levels), size)
    )
    nelbo = evaluate(coder.model, batches, progress=make_progress(len(levels)))
    rows = [ours, Row("NELBO", nelbo.nelbo * len(levels) / math.log(256.0))]
    pixels = levels * np.uint8(full_scale(coder.model.model_config))
    return [*rows, *_other_programs(pixels)], statistics, len(levels), levels[0].size


def format_table(rows, statistics, num_images, num_values):
    """Formats the result of `measure` as the lines to print."""
    lines = [f"{'':<36}{'bytes':>14}{'bits/dim':>10}{'write s':>10}{'read s':>10}"]
    for row in rows:
        seconds = "".join(f"{'' if value is None else f'{value:.1f}':>10}" for value in row[2:])
        lines.append(
            f"{row.name:<36}{row.num_bytes:>14.0f}{8 * row.num_bytes / num_images / num_values:>10.4f}{seconds}"
        )
    if statistics.num_images == num_images:
        coded = statistics.stored_bits - statistics.start_bits
        parts = {
            "NELBO": 8 * rows[1].num_bytes,
            "grid of the latents, and its sample": statistics.ideal_bits - 8 * rows[1].num_bytes,
            "precision of the coder": coded - statistics.ideal_bits,
            "start-up bits of the chunks": statistics.start_bits,
            "header and checksums": 8 * rows[0].num_bytes - statistics.stored_bits,
        }
        lines += ["", f"{'bits of an image by this program':<36}{'bits':>14}{'% of NELBO':>12}"]
        for name, bits in parts.items():
            lines.append(f"{name:<36}{bits / num_images:>14.3f}{100 * bits / parts['NELBO']:>12.3f}")
    return "\n".join(lines)


def _other_programs(pixels):
    """A `Row` for each format, with a file for each image and with all of them in one picture."""
    if pixels.shape[-1] not in (1, 3):
        return []
    pictures = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]
    if pixels.shape[-1] == 1 and not np.any(pixels % 255):
        pictures = [picture.convert("1") for picture in pictures]
    rows = []
    for name, options in _formats().items():
        for how, files in (("a file for each", pictures), ("one picture", _sheets(pictures))):
            rows.append(_row(f"{name}, {how}", files, options))
    return rows


def _formats():
    """{name: arguments of Pillow's `save`} of the formats without loss that are installed."""
    found = {"PNG": {"format": "PNG", "optimize": True}}
    if features.check("webp"):
        found["WebP"] = {"format": "WEBP", "lossless": True, "quality": 100, "method": 6}
    try:
        import pillow_jxl  # noqa: F401  the plugin registers itself

        found["JPEG XL"] = {"format": "JXL", "lossless": True, "effort": 9}
    except ImportError:
        pass
    return found


def _sheets(pictures):
    """The pictures side by side, in as few larger ones as a format takes, nearly square."""
    width, height = pictures[0].size
    columns = min(max(round(math.sqrt(len(pictures) * height / width)), 1), _MAX_SIDE // width)
    rows = min(-(-len(pictures) // columns), _MAX_SIDE // height)
    sheets = []
    for start in range(0, len(pictures), rows * columns):
        part = pictures[start : start + rows * columns]
        sheet = Image.new(part[0].mode, (width * min(columns, len(part)), height * -(-len(part) // columns)))
        for place, picture in enumerate(part):
            sheet.paste(picture, (place % columns * width, place // columns * height))
        sheets.append(sheet)
    return sheets


def _row(name, pictures, options):
    began, files = time.monotonic(), []
    for picture in pictures:
        files.append(io.BytesIO())
        # WebP has no mode of one bit.
        (picture if options["format"] == "PNG" or picture.mode != "1" else picture.convert("L")).save(
            files[-1], **options
        )
    written = time.monotonic()
    for file in files:
        with Image.open(file) as picture:
            picture.load()
    return Row(name, sum(len(file.getvalue()) for file in files), written - began, time.monotonic() - written)
