"""Latents of a data set as a file: .npz, assembled in memory, or .tfrecord, written batch by batch."""

import math

from nvae_tf import hierarchy
from nvae_tf.files import new_file

PARTS = ("latents", "params", "kl")
_GIB = 2**30
_FLOAT_BYTES = 4


def layout(config, parts):
    """Returns the shape of each array for one image, `{name: tuple}`, from a model's configuration and some of `PARTS`.

    `latents_00` ..., `loc_00` ... and `log_scale_00` ... are [h, w, latent_channels] in generation order, and
    `kl_per_group` is [G]; all float32. A file also holds the numbers of the images: `index`, int64.

    Raises ValueError if `parts` include `params` and the posteriors are not normal.
    """
    if "params" in parts and not getattr(config, "normal_latents", True):
        raise ValueError(f"--what: expected latents or kl with model.family {config.family!r}. Received: params")
    groups = [shape[1:] for shape in hierarchy.noise_shapes(config, None)]
    prefixes = {"latents": ["latents"], "params": ["loc", "log_scale"], "kl": []}
    names = [prefix for part in parts for prefix in prefixes[part]]
    shapes = {f"{prefix}_{group:02}": shape for prefix in names for group, shape in enumerate(groups)}
    return shapes | ({"kl_per_group": (len(groups),)} if "kl" in parts else {})


def row_arrays(encoded, names):
    """`{name: array [B, ...]}` of an `Encoded` for the names of a `layout`."""
    arrays = {"kl_per_group": encoded.kl_per_group}
    for prefix, values in (("latents", encoded.latents), ("loc", encoded.locs), ("log_scale", encoded.log_scales)):
        arrays |= {f"{prefix}_{group:02}": rows for group, rows in enumerate(values)}
    return {name: arrays[name] for name in names}


def check_size(path, shapes, num_images, max_gib):
    """Raises `ValueError` if an .npz, which is assembled in memory, would take more than `max_gib`."""
    gib = num_images * _FLOAT_BYTES * sum(map(math.prod, shapes.values())) / _GIB
    if path.endswith(".npz") and gib > max_gib:
        raise ValueError(
            f"--out: expected at most --max_gib={max_gib:g} GiB in an .npz, which is assembled in memory; a .tfrecord "
            f"may have any size. Received: {path}, {gib:.3g} GiB"
        )


def write_latents_npz(path, shapes, num_images, batches):
    """Writes an .npz of `num_images` images, from (numbers, `{name: array [B, ...]}`) for each batch."""
    import numpy as np

    arrays = {name: np.empty((num_images, *shape), np.float32) for name, shape in shapes.items()}
    index = []
    for numbers, rows in batches:
        for name, values in rows.items():
            arrays[name][len(index) : len(index) + len(numbers)] = values
        index += numbers
    with new_file(path) as temporary:
        np.savez(temporary, index=np.array(index, np.int64), **arrays)


def write_latents_tfrecord(path, batches):
    """Writes a .tfrecord with a tf.train.Example for each image, from the same `batches` as `write_latents_npz`."""
    with new_file(path) as temporary:
        write_tfrecord(temporary, ({"index": numbers, **rows} for numbers, rows in batches))


def write_tfrecord(path, batches):
    """Writes a TFRecord file with a tf.train.Example for each row.

    Args:
        path: path of the file.
        batches: iterable of `{name: list or array [B, ...]}` of bytes, texts, integers or floats; these become float32.
    """
    import numpy as np
    import tensorflow as tf

    def feature(value):
        if isinstance(value, (bytes, str)):
            content = value if isinstance(value, bytes) else value.encode()
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
        value = np.ravel(value)
        if value.dtype.kind == "i":
            return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))

    with tf.io.TFRecordWriter(str(path)) as file:
        for rows in batches:
            for values in zip(*rows.values(), strict=True):
                features = {name: feature(value) for name, value in zip(rows, values, strict=True)}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                file.write(example.SerializeToString(deterministic=True))
