"""The images of a run's data set, checked against its model."""

import sys

from nvae_tf.runs.progress import Progress

_GIB = 2**30


def check_data(config):
    """The `DatasetInfo` of a `Config`; raises ValueError where the data set and the model do not go together."""
    from nvae_tf.data.datasets import dataset_info

    info, model = dataset_info(config.data.dataset), config.model
    for field, expected in (
        ("image_height", info.image_size),
        ("image_width", info.image_size or model.image_height),
        ("image_channels", info.channels),
        ("padding", info.padding),
    ):
        received = getattr(model, field)
        if field == "image_width" and info.image_size is None and received != expected:
            raise ValueError(
                f"model.image_width: expected square images, {expected} as image_height. Received: {received}"
            )
        if expected is not None and received != expected:
            raise ValueError(f"model.{field}: data set {info.name} has {expected}. Received: {received}")
    if model.image_channels not in (1, 3):
        raise ValueError(f"model.image_channels: expected 1 or 3. Received: {model.image_channels}")
    if model.likelihood == "bernoulli" and not config.data.binarize:
        raise ValueError("data.binarize: expected True with the Bernoulli likelihood. Received: False")
    return info.with_size(model.image_height, model.image_channels)


def held_out_split(config, data_dir):
    """`"validation"` where the run or its data set has validation images, else `"test"`."""
    from nvae_tf.data.splits import open_splits

    data = config.data
    _, splits = open_splits(check_data(config), data_dir, data.split_seed, data.test_fraction)
    return "validation" if data.validation_images or "validation" in splits else "test"


def load_images(config, data_dir, split, max_images=0):
    """Images of a split, in memory where they take no more than `data.cache_gib`.

    Args:
        config: `Config` of the run.
        data_dir: folder of the data set's files.
        split: `"train"` (without the held-out images), `"validation"` or `"test"`.
        max_images: keep only the first; 0 for all. Default 0.

    Returns:
        `ImageSet`.

    Raises:
        ValueError: no such split, damaged files, or a data set that does not fit the model.
        FileNotFoundError: the data set's files are not there.
    """
    from nvae_tf.data.image_set import ImageSet

    info, data = check_data(config), config.data
    store = _open(info, data, data_dir, split, max_images, config.model.bit_depth)
    images = ImageSet(store, info.padding, data.max_damaged)
    size = f"{len(images)} {split} images, {store.source}"
    if images.num_bytes > data.cache_gib * _GIB:
        print(
            f"{size}: {images.num_bytes / _GIB:.1f} GiB, more than data.cache_gib; read as they are needed", flush=True
        )
        return images
    print(f"{size}: read into memory", flush=True)
    return images.load(Progress(len(images)))


def _open(info, data, data_dir, split, max_images, bit_depth):
    from nvae_tf.data.splits import open_images, seeded_split
    from nvae_tf.data.stores import SubsetStore

    held_out = data.validation_images
    source_split = "train" if held_out and split == "validation" else split
    store = open_images(info, data_dir, source_split, data.resize, data.split_seed, data.test_fraction)
    published = (info.num_images or {}).get(source_split, len(store))
    if len(store) != published:
        print(f"{info.name} {source_split}: {len(store)} images; the published set has {published}", file=sys.stderr)
    if held_out and split != "test":
        if held_out >= len(store):
            raise ValueError(f"data.validation_images: expected fewer than {len(store)} images. Received: {held_out}")
        part = "test" if split == "validation" else "train"
        store = SubsetStore(store, seeded_split(len(store), held_out, data.split_seed)[part])
    if info.note:
        print(f"{info.name}: {info.note}", file=sys.stderr)
    if split != "train" and info.image_size and bit_depth != info.bit_depth:
        print(
            f"{info.name}: model.bit_depth is {bit_depth}; published results have {info.bit_depth} bits and do not "
            "compare",
            file=sys.stderr,
        )
    if max_images and max_images < len(store):
        store = SubsetStore(store, range(max_images))
    return store
