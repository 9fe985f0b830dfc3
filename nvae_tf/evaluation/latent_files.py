"""Latents of a data set as a file: .npz, made in memory, or .tfrecord, written batch by batch."""

import math
import os

PARTS = ("latents", "params", "kl")
_GIB = 2**30
_FLOAT_BYTES = 4


def layout(config, parts):
    """Shape of one image's row of each array in the file.

    Args:
        config: `ModelConfig`.
        parts: those of `PARTS` that are written.

    Returns:
        `{name: tuple}`: `latents_00` ..., `loc_00` ... and `log_scale_00` ... [h, w, latent_channels] in generation
        order, `kl_per_group` [G]; all float32. The file has the images' numbers as well: `index`, int64.
    """
    from nvae_tf import hierarchy

    groups = [shape[1:] for shape in hierarchy.noise_shapes(config, None)]
    prefixes = {"latents": ["latents"], "params": ["loc", "log_scale"], "kl": []}
    names = [prefix for part in parts for prefix in prefixes[part]]
    shapes = {f"{prefix}_{group:02}": shape for prefix in names for group, shape in enumerate(groups)}
    return shapes | ({"kl_per_group": (len(groups),)} if "kl" in parts else {})


def row_arrays(encoded, names):
    """`{name: array [B, ...]}` of an `Encoded`, for the names of a `layout`."""
    lists = {"latents": encoded.latents, "loc": encoded.locs, "log_scale": encoded.log_scales}
    arrays = {f"{prefix}_{group:02}": rows for prefix, values in lists.items() for group, rows in enumerate(values)}
    return {name: (arrays | {"kl_per_group": encoded.kl_per_group})[name] for name in names}


def check_size(path, shapes, num_images, max_gib):
    """Refuses an .npz that would take too much memory, where it is made.

    Raises:
        ValueError: it would; the message says what would do.
    """
    gib = num_images * _FLOAT_BYTES * sum(map(math.prod, shapes.values())) / _GIB
    if path.endswith(".npz") and gib > max_gib:
        raise ValueError(
            f"--out: expected at most --max_gib={max_gib:g} GiB in an .npz, which is made in memory; a .tfrecord may "
            f"be of any size. Received: {path}, {gib:.3g} GiB"
        )


def write_npz(path, shapes, num_images, batches):
    """Writes an .npz, to a temporary name first; it is in memory once.

    Args:
        path: of the file.
        shapes: as of `layout`.
        num_images: the most there may be.
        batches: iterable of (numbers, `{name: array [B, ...]}`).
    """
    import numpy as np

    arrays = {name: np.empty((num_images, *shape), np.float32) for name, shape in shapes.items()}
    index = []
    for numbers, rows in batches:
        for name, values in rows.items():
            arrays[name][len(index) : len(index) + len(numbers)] = values
        index += numbers
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        np.savez(file, index=np.array(index, np.int64), **{name: rows[: len(index)] for name, rows in arrays.items()})
    os.replace(temporary, path)


def write_records(path, batches):
    """Writes a .tfrecord, to a temporary name first: one tf.train.Example for each image.

    Args:
        path: of the file.
        batches: iterable of (numbers, `{name: array [B, ...]}`); the features are `index`, an int64, and float lists
            of the arrays' names.
    """
    import tensorflow as tf

    from nvae_tf.data.records import write_record

    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        for numbers, rows in batches:
            for place, number in enumerate(numbers):
                features = {"index": tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))}
                for name, values in rows.items():
                    floats = tf.train.FloatList(value=values[place].ravel())
                    features[name] = tf.train.Feature(float_list=floats)
                example = tf.train.Example(features=tf.train.Features(feature=features))
                write_record(file, example.SerializeToString(deterministic=True))
    os.replace(temporary, path)
