"""The images of a run's data set, checked against its model."""

import dataclasses
import os
import pathlib
import sys

from nvae_tf.runs.progress import Progress

_GIB = 2**30


def check_data(config):
    """Returns the `DatasetInfo` of a `Config`; raises ValueError if the data set does not fit the model."""
    from nvae_tf.data.datasets import dataset_info

    info, model = dataset_info(config.data.dataset), config.model
    sides = [side - 2 * model.padding for side in (model.image_height, model.image_width)]
    if sides == [info.stored_size] * 2:  # the padding is free
        info = dataclasses.replace(info, image_size=model.image_height, padding=model.padding)
    for field, expected in (
        ("image_height", info.image_size),
        ("image_width", info.image_size),
        ("image_channels", info.channels),
        ("padding", info.padding),
    ):
        received = getattr(model, field)
        if expected is not None and received != expected:
            raise ValueError(f"model.{field}: data set {info.name} has {expected}. Received: {received}")
    if model.image_width != model.image_height:
        raise ValueError(
            f"model.image_width: expected {model.image_height}, as image_height. Received: {model.image_width}"
        )
    if model.image_channels not in (1, 3):
        raise ValueError(f"model.image_channels: expected 1 or 3. Received: {model.image_channels}")
    if model.likelihood == "bernoulli" and not config.data.binarize:
        raise ValueError("data.binarize: expected True with the Bernoulli likelihood. Received: False")
    return info.with_size(model.image_height, model.image_channels)


def default_cache_dir():
    """Folder in which prepared data sets are kept: $XDG_CACHE_HOME/nvae_tf, or ~/.cache/nvae_tf."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nvae_tf"


def split_names(config, data_dir):
    """The splits of a run: `"train"`, the one that training evaluates on, and `"test"` if that is `"validation"`."""
    from nvae_tf.data.splits import open_splits

    _, splits = open_splits(check_data(config), data_dir)
    return ["train", *(["validation"] if config.data.validation_images or "validation" in splits else []), "test"]


def load_images(config, data_dir, split, max_images=0, cache_dir=None, record=None, more_splits=False):
    """Loads a split: into memory if it takes no more than `data.cache_gib`, otherwise from prepared records.

    A data set that neither fits nor has been prepared is first prepared in the cache, once.

    Args:
        config: `Config` of the run.
        data_dir: folder of the data set's files.
        split: `"train"` (without the held-out images), `"validation"` or `"test"`.
        max_images: keep only the first `max_images`; 0 for all. Default 0.
        cache_dir: folder for prepared data sets. Default `default_cache_dir()`.
        record: `DataRecord` of the run, with which the whole split is compared; None for no comparison. Default None.
        more_splits: whether another split is loaded next, and only then is said what was left out. Default False.

    Returns:
        `ImageSet`.

    Raises:
        ValueError: no such split, damaged files, a data set that does not fit the model, or images that are not
            the run's.
        FileNotFoundError: the data set's files are missing.
    """
    from nvae_tf.data.image_set import from_records, image_shape, in_memory

    info, data = check_data(config), config.data
    whole = open_split(config, data_dir, split, notes=True)
    if record is not None:
        record.check_count(split, len(whole))
    images = whole.subset(slice(max_images or None))
    if split != "train" and info.image_size and config.model.bit_depth != info.bit_depth:
        _note(
            f"{info.name}: model.bit_depth is {config.model.bit_depth}; published results have {info.bit_depth} bits "
            "and cannot be compared"
        )
    height, width, channels = image_shape(images, info.padding)
    gib = len(images) * height * width * channels / _GIB
    fits = gib <= data.cache_gib
    how = "read into memory" if fits else f"{gib:.1f} GiB, more than data.cache_gib; read from prepared records"
    print(f"{len(images)} {split} images, {images.split.source}: {how}", flush=True)
    if images.split.selection and not more_splits:
        print(images.split.selection, flush=True)
    if fits:
        found = in_memory(images, info.padding, data.max_damaged, Progress(len(images)))
    else:
        if images.split.open_records is None:
            folder = _prepare(info, data, data_dir, cache_dir or default_cache_dir())
            whole = open_split(config, folder, split)
            images = whole.subset(slice(max_images or None))
        found = from_records(images, info.padding, data.max_damaged)
    if record is None:
        return found
    fingerprint = found.fingerprint if len(images) == len(whole) else None
    return dataclasses.replace(found, of_run=record.check(split, whole, fingerprint))


def _prepare(info, data, data_dir, cache_dir):
    from nvae_tf.data.prepare import Preparation
    from nvae_tf.data.processes import num_cores

    return Preparation(info, data_dir, data, num_cores(), _note, Progress).in_cache(cache_dir)


def _note(text):
    print(text, file=sys.stderr, flush=True)


def open_split(config, data_dir, split, notes=False):
    """Opens a split of a run as `SplitImages`; with `notes` says what to know when results are compared."""
    from nvae_tf.data.splits import divide, open_images

    info, data = check_data(config), config.data
    held_out = data.validation_images
    source_split = "train" if held_out and split == "validation" else split
    images = open_images(info, data_dir, source_split, data)
    for field, drawn in (images.split.drawn_by or {}).items():
        if drawn != (expected := getattr(data, field)):
            raise ValueError(
                f"{images.split.source}: {field}: expected {expected!r}, as in the run. Received: {drawn!r}; "
                f"prepare the images to another folder with --{field}={expected}"
            )
    published = (info.num_images or {}).get(source_split, len(images))
    if notes and len(images) != published:
        _note(f"{info.name} {source_split}: {len(images)} images; the published set has {published}")
    if notes and info.note:
        _note(f"{info.name}: {info.note}")
    if held_out and split != "test":
        if held_out >= len(images):
            raise ValueError(f"data.validation_images: expected fewer than {len(images)} images. Received: {held_out}")
        part = "test" if split == "validation" else "train"
        images = images.subset(divide(images, held_out, data)[part])
    return images
