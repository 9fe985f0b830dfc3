"""Images as NumPy arrays in .npy and .npz files."""

import functools

import numpy as np

from nvae_tf.data.sources.names import choose_splits, names_fit, visible_files
from nvae_tf.data.sources.reading import array_split, named_damage

_CHANNELS = (1, 3, 4)
_EXPECTED = "uint8 [N, H, W] or [N, H, W, C] with C of 1, 3 or 4 and N of at least 1"
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_KEYS = ("images", "arr_0", "data")


def load_array(path, key=""):
    """The memory-mapped array of a .npy file, or the array of an .npz file with this key."""
    with named_damage(path, "NumPy arrays"):
        arrays = np.load(path, mmap_mode="r", allow_pickle=False)
        if not key:
            return arrays
        with arrays:
            return arrays[key]


def array_headers(path):
    """{key: (shape, dtype)} of the arrays in an .npz file, or of the array in a .npy file, whose key is ""."""
    if path.suffix.lower() == ".npy":
        array = load_array(path)
        return {"": (array.shape, array.dtype)}
    headers = {}
    with named_damage(path, "an .npz file"), np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            with arrays.zip.open(f"{key}.npy") as file:
                shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(file)](file)
            headers[key] = shape, dtype
    return headers


def _is_stack(shape):
    return len(shape) in (3, 4)


def _check(name, shape, dtype):
    """Raises `ValueError` unless this is an array of images."""
    good_shape = _is_stack(shape) and min(shape) >= 1 and (len(shape) == 3 or shape[3] in _CHANNELS)
    if good_shape and dtype == np.uint8:
        return
    hint = ""
    if len(shape) == 4 and not good_shape and shape[1] in _CHANNELS:
        hint = "; the channels must come last, not first"
    elif dtype != np.uint8:
        hint = "; the values must be 0 to 255 as uint8"
    raise ValueError(f"{name}: expected {_EXPECTED}. Received: {dtype} {list(shape)}{hint}")


def _image_key(headers, path):
    """The key of the array that holds the images; None if no array has the shape of images."""
    keys = [key for key, (shape, _) in headers.items() if _is_stack(shape)]
    named = [key for key in _KEYS if key in keys]
    bytes_ = [key for key in keys if headers[key][1] == np.uint8]
    for choice in (keys, named[:1], bytes_):
        if len(choice) == 1:
            return choice[0]
    if keys:
        raise ValueError(f"{path}: expected one array of {_EXPECTED}. Received: {', '.join(keys[:20])}")
    return None


def _open(path, channels, key=None):
    headers = array_headers(path)
    key = _image_key(headers, path) if key is None else key
    if key is None:
        received = ", ".join(f"{key} {dtype} {list(shape)}".strip() for key, (shape, dtype) in headers.items())
        raise ValueError(f"{path}: expected an array of {_EXPECTED}. Received: {received or 'no array'}")
    name = f"{path}, {key}" if key else str(path)
    shape, dtype = headers[key]
    _check(name, shape, dtype)
    return array_split(name, [path], functools.partial(load_array, path, key), channels, shape[0])


def find_npz(root, info):
    """Finds NumPy arrays of images in a folder.

    There is either one file for each split, named after it (train.npy, val.npz, x_test.npy), or one file: an .npz file
    with a key for each split (train, x_train, val_images), or with one array of images under any key, or a .npy file.

    Raises:
        ValueError: a file is damaged, several are named after one split, or several arrays may be the images. When a
            split is opened: the array is not uint8 [N, H, W] or [N, H, W, C].
    """
    paths = {path.name: path for path in visible_files(root, (".npy", ".npz"))}
    if len(paths) == 1:
        [path] = paths.values()
        keys = choose_splits(array_headers(path), info.stored_size, path)
        if keys:
            return {split: functools.partial(_open, path, info.channels, key) for split, key in keys.items()}
    names = choose_splits(paths, info.stored_size, root)
    if not names_fit(paths):
        found = [name for name, path in paths.items() if _image_key(array_headers(path), path) is not None]
        if len(found) > 1:
            received = ", ".join(found[:20])
            raise ValueError(f"{root}: expected one .npy or .npz file, or one for each split. Received: {received}")
        names = choose_splits(found or paths, info.stored_size, root) or dict(zip(["all"], found, strict=False))
    return {split: functools.partial(_open, paths[name], info.channels) for split, name in names.items()} or None
