"""Data sets that TensorFlow Datasets has prepared; what it needs is imported only where there are any."""

import functools
import os
import re
import threading

from nvae_tf.data.decode import decode
from nvae_tf.data.sources.omniglot import InvertedStore

_SPLITS = ("train", "validation", "test")
_INFO_FILE = "dataset_info.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NEEDED = "tensorflow-datasets, pip install -e '.[tfds]'"


def _import_tfds():
    import tensorflow_datasets

    return tensorflow_datasets


def _versions(folder):
    """Folders of prepared versions, the oldest first."""
    found = [path.parent for path in folder.glob(f"*/{_INFO_FILE}") if _VERSION.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: tuple(map(int, path.name.split("."))))


def _prepared_folder(root, name):
    """The folder of `name`'s newest version, or of NAME:VERSION, in a `data_dir` of TensorFlow Datasets; or None."""
    name, _, version = name.partition(":")
    folder = root.joinpath(*name.split("/"))
    if not folder.is_dir():
        return None
    if version:
        return folder / version if (folder / version / _INFO_FILE).is_file() else None
    found = _versions(folder)
    if found:
        return found[-1]
    configs = sorted(path for path in folder.iterdir() if path.is_dir() and _versions(path))
    if len(configs) > 1:
        names = [f"{name}/{path.name}" for path in configs]
        raise ValueError(f"{folder}: expected one configuration of {name}, or its name. Received: {', '.join(names)}")
    return _versions(configs[0])[-1] if configs else None


def _builder(folder):
    try:
        return _import_tfds().builder_from_directory(os.fspath(folder))
    except ImportError:
        raise
    except Exception as error:  # damaged descriptions raise nearly anything
        received = f"{type(error).__name__}: {error}"
        raise ValueError(f"{folder}: expected a data set of TensorFlow Datasets. Received: {received}") from error


def _image_key(features, folder):
    kind = _import_tfds().features.Image
    # A data set may also be one feature alone, without a dict.
    pairs = features.items() if hasattr(features, "items") else ()
    keys = sorted(key for key, feature in pairs if isinstance(feature, kind))
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise ValueError(f"{folder}: expected one image feature, or one named 'image'. Received: {keys or features}")
    return keys[0]


class TfdsStore:
    """Images of one split of a prepared data set.

    `tf.data` reads in order alone. When the first image is read, all of the split are, and their files stay in memory
    as they are encoded: some 3 GB for ImageNet 32. Each process that reads has its own.

    Args:
        folder: `pathlib.Path` of the data set's version.
        split: its name there.
        channels: of the data set.
    """

    def __init__(self, folder, split, channels):
        self.folder, self.split, self.channels = folder, split, channels
        self.source = f"{folder}, split {split}"
        builder = _builder(folder)
        self._key = _image_key(builder.info.features, folder)
        self._count = builder.info.splits[split].num_examples
        self._close()

    def _close(self):
        self._files, self._lock = None, threading.Lock()

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in ("_files", "_lock")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._close()

    def __len__(self):
        return self._count

    def name(self, index):
        return f"{self.source}, image {index}"

    def _read_files(self):
        tfds, builder = _import_tfds(), _builder(self.folder)
        key = self._key
        decoders = tfds.decode.PartialDecoding(
            {key: builder.info.features[key]}, decoders={key: tfds.decode.SkipDecoding()}
        )
        try:
            dataset = builder.as_dataset(split=self.split, decoders=decoders, shuffle_files=False)
            files = [example[key].numpy() for example in dataset]
        except OSError:
            raise
        except Exception as error:  # TensorFlow's errors and those of the package have no class in common
            raise ValueError(
                f"{self.source}: expected {self._count} images. Received: {type(error).__name__}: {error}"
            ) from error
        if len(files) != self._count:
            raise ValueError(f"{self.source}: expected {self._count} images. Received: {len(files)}")
        return files

    def read(self, index):
        with self._lock:
            if self._files is None:
                self._files = self._read_files()
        return decode(self._files[index], self.channels, self.name(index))


def _open(folder, split, info):
    store = TfdsStore(folder, split, info.channels)
    # There it is black ink on white paper, as in the images of its authors.
    return InvertedStore(store) if info.name == "omniglot" else store


def find_tfds(root, info):
    """A data set that TensorFlow Datasets has prepared below a folder; nothing is ever downloaded.

    Args:
        root: `pathlib.Path`, the `data_dir` of TensorFlow Datasets: it holds NAME/VERSION or NAME/CONFIG/VERSION.
        info: `DatasetInfo`; `tfds_name` is NAME or NAME/CONFIG, with :VERSION or the newest.

    Returns:
        {"train", "validation" and "test", those that are there: function of nothing that gives a `TfdsStore`}, or
        None. The functions raise `ValueError` where there is no image feature, or more than one and none is "image".

    Raises:
        ValueError: it is there, but the package is not installed, its description is damaged, or its configuration is
            not told.
    """
    folder = _prepared_folder(root, info.tfds_name) if info.tfds_name else None
    if folder is None:
        return None
    try:
        splits = _builder(folder).info.splits
    except ImportError as error:
        raise ValueError(f"{folder}: expected {_NEEDED}. Received: {error}") from error
    return {split: functools.partial(_open, folder, split, info) for split in _SPLITS if split in splits} or None


def prepare_tfds(name, data_dir):
    """Downloads a data set with TensorFlow Datasets and prepares it.

    Args:
        name: NAME or NAME/CONFIG, with :VERSION or the newest.
        data_dir: where `find_tfds` will look for it.

    Raises:
        ValueError: the package is not installed, or cannot get the data set.
    """
    try:
        tfds = _import_tfds()
    except ImportError as error:
        raise ValueError(f"{name}: expected {_NEEDED}. Received: {error}") from error
    try:
        tfds.builder(name, data_dir=os.fspath(data_dir)).download_and_prepare()
    except OSError:
        raise
    except Exception as error:  # what builders raise has no common kind
        raise ValueError(
            f"{name}: expected TensorFlow Datasets to download and prepare it. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
