"""Data sets that TensorFlow Datasets has prepared; its package is imported only if there are any."""

import functools
import os
import pathlib

from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.omniglot import inverted
from nvae_tf.data.sources.reading import decode_or_error, named_damage

_SPLITS = ("train", "validation", "test")


def _import_tfds(name):
    try:
        import tensorflow_datasets
    except ImportError as error:
        needed = "tensorflow-datasets, pip install -e '.[tfds]'"
        raise ValueError(f"{name}: expected {needed}. Received: {error}") from error
    return tensorflow_datasets


def _builder(folder):
    tfds = _import_tfds(folder)
    with named_damage(folder, "a data set of TensorFlow Datasets"):
        return tfds.builder_from_directory(os.fspath(folder))


def _image_key(builder, folder):
    image = _import_tfds(folder).features.Image
    features = builder.info.features
    # A data set may also consist of a single feature that is not in a dict.
    pairs = features.items() if hasattr(features, "items") else ()
    keys = sorted(key for key, feature in pairs if isinstance(feature, image))
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise ValueError(f"{folder}: expected one image feature, or one named 'image'. Received: {keys or features}")
    return keys[0]


def _read(folder, split, key, channels, indices):
    tfds, builder = _import_tfds(folder), _builder(folder)
    source, wanted, numbers = f"{folder}, split {split}", set(indices.tolist()), range(indices[0], indices[-1] + 1)
    decoders = tfds.decode.PartialDecoding(
        {key: builder.info.features[key]}, decoders={key: tfds.decode.SkipDecoding()}
    )
    # Files are read one after the other, so that a slice holds the same images wherever it begins.
    config = tfds.ReadConfig(interleave_cycle_length=1)
    with named_damage(source, "readable records"):
        examples = builder.as_dataset(
            split=f"{split}[{numbers.start}:{numbers.stop}]", decoders=decoders, read_config=config, shuffle_files=False
        )
        for index, example in zip(numbers, examples, strict=True):
            if index in wanted:
                name = f"{source}, image {index}"
                yield name, decode_or_error(example[key].numpy(), channels, name)


def _open(folder, split, info):
    builder = _builder(folder)
    read = functools.partial(_read, folder, split, _image_key(builder, folder), info.channels)
    found = SourceSplit(f"{folder}, split {split}", builder.info.splits[split].num_examples, read, (folder,))
    # As in its authors' images, OMNIGLOT is black ink on white paper there.
    return inverted(found) if info.name == "omniglot" else found


def find_tfds(root, info):
    """Finds a data set that TensorFlow Datasets has prepared below a folder; nothing is ever downloaded.

    Args:
        root: `pathlib.Path`, the `data_dir` of TensorFlow Datasets: it holds NAME/VERSION or NAME/CONFIG/VERSION.
        info: `DatasetInfo`; `tfds_name` is NAME or NAME/CONFIG, with :VERSION unless the newest is meant.

    Raises:
        ValueError: the data set exists, but the package is not installed or the description is damaged. When a split is
            opened: there is no image feature, or there are several and none is named "image".
    """
    name = info.tfds_name
    if not name:
        return None
    place = root / name.partition(":")[0].partition("/")[0]
    if not any(path.is_file() for depth in ("*", "*/*") for path in place.glob(f"{depth}/dataset_info.json")):
        return None
    _import_tfds(place)
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    with named_damage(place, f"{name}, a data set of TensorFlow Datasets"):
        builder = builder_from_files(name, data_dir=os.fspath(root))
    folder = pathlib.Path(builder.data_dir)
    return {split: functools.partial(_open, folder, split, info) for split in _SPLITS if split in builder.info.splits}


def prepare_tfds(name, data_dir):
    """Downloads a data set with TensorFlow Datasets and prepares it in `data_dir`; `name` as in `find_tfds`."""
    tfds = _import_tfds(name)
    with named_damage(name, "TensorFlow Datasets to download and prepare it"):
        tfds.builder(name, data_dir=os.fspath(data_dir)).download_and_prepare()
