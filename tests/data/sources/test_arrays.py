"""NumPy arrays: names of files and keys, the choice among several arrays, and arrays that are not images."""

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.arrays import find_npz
from tests.data.sources.formats import names, read

INFO = dataset_info("folder").with_size(32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.arange(6)


def opened(root, info=INFO):
    return {split: make() for split, make in find_npz(root, info).items()}


def write(path, array):
    with open(path, "wb") as file:
        (np.save if path.suffix.lower() == ".npy" else np.savez)(file, array)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["Train.NPY", "valid.npz", "testing.npy"], ["train", "validation", "test"]),
        (["train_32x32.npz", "valid_32x32.npz"], ["train", "validation"]),
        (["test.npy"], ["test"]),
        (["train.npz"], ["train"]),
        (["faces.npy"], ["all"]),
        (["faces.npz"], ["all"]),
    ],
)
def test_files(tmp_path, names, splits):
    for start, name in enumerate(names):
        write(tmp_path / name, IMAGES[start:])
    found = opened(tmp_path)
    assert set(found) == set(splits)
    for start, split in enumerate(splits):
        np.testing.assert_array_equal(read(found[split]), IMAGES[start:])


def test_other_files_do_not_matter(tmp_path):
    np.save(tmp_path / "faces.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    np.save(tmp_path / ".faces.npy", IMAGES)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    assert list(opened(tmp_path)) == ["all"]
    (tmp_path / "faces.npy").rename(tmp_path / "train.npy")
    assert list(opened(tmp_path)) == ["train"]


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (["train", "validation", "test"], ["train", "validation", "test"]),
        (["train_images", "val_images"], ["train", "validation"]),
        (["anything"], ["all"]),
    ],
)
def test_keys_of_one_file(tmp_path, keys, splits):
    np.savez(tmp_path / "set.npz", y_train=LABELS, **{key: IMAGES[start:] for start, key in enumerate(keys)})
    found = opened(tmp_path)
    assert set(found) == set(splits)
    for start, (key, split) in enumerate(zip(keys, splits, strict=True)):
        np.testing.assert_array_equal(read(found[split]), IMAGES[start:])
        assert names(found[split])[0] == f"{tmp_path}/set.npz, {key}, image 0"


def test_the_array_of_images_is_found_among_others(tmp_path):
    np.savez(tmp_path / "set.npz", mean=np.zeros((5, 4, 3)), faces=IMAGES, y=LABELS)
    np.testing.assert_array_equal(read(opened(tmp_path)["all"]), IMAGES)
    np.savez(tmp_path / "set.npz", masks=IMAGES[..., :1], images=IMAGES)
    np.testing.assert_array_equal(read(opened(tmp_path)["all"]), IMAGES)
    np.savez(tmp_path / "set.npz", masks=IMAGES[..., :1], faces=IMAGES)
    with pytest.raises(ValueError, match="set.npz: expected one array of uint8 .* Received: masks, faces"):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("name", ["train.npy", "train.npz"])
def test_grey_and_transparent_arrays(tmp_path, name):
    grey = IMAGES[..., 0]
    write(tmp_path / name, grey)
    np.testing.assert_array_equal(read(opened(tmp_path, dataset_info("mnist"))["train"]), grey[..., np.newaxis])
    np.testing.assert_array_equal(read(opened(tmp_path)["train"]), np.repeat(grey[..., np.newaxis], 3, axis=3))
    write(tmp_path / name, np.array([[[[9, 8, 7, 255], [9, 8, 7, 0]]]], np.uint8))
    np.testing.assert_array_equal(read(opened(tmp_path)["train"]), [[[[9, 8, 7], [255, 255, 255]]]])


@pytest.mark.parametrize(
    ("files", "received"),
    [
        (["a.npy", "b.npz"], "one .npy or .npz file, or one for each split. Received: a.npy, b.npz"),
        (["bus.npy", "train.npy"], "one .npy or .npz file, or one for each split. Received: bus.npy, train.npy"),
        (["train.npy", "train.npz"], "one name for the split 'train'. Received: train.npy, train.npz"),
    ],
)
def test_ambiguous_files(tmp_path, files, received):
    for name in files:
        write(tmp_path / name, IMAGES)
    with pytest.raises(ValueError, match=received):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("name", ["train.npy", "train.npz"])
@pytest.mark.parametrize(
    ("array", "received"),
    [
        (IMAGES / np.float32(255), r"float32 \[6, 5, 4, 3\]; the values must be 0 to 255 as uint8"),
        (np.zeros((6, 3, 5, 8), np.uint8), r"uint8 \[6, 3, 5, 8\]; the channels must come last, not first"),
        (np.zeros((6, 5, 4, 2), np.uint8), r"uint8 \[6, 5, 4, 2\]"),
        (IMAGES[:0], r"uint8 \[0, 5, 4, 3\]"),
        (IMAGES.reshape(6, 60), r"(arr_0 )?uint8 \[6, 60\]"),
    ],
)
def test_arrays_that_are_not_images(tmp_path, name, array, received):
    write(tmp_path / name, array)
    make = find_npz(tmp_path, INFO)["train"]
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name}.*: expected .*uint8 \[N, H, W\].*Received: {received}"):
        make()


def test_no_pickle_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("trap").touch, ())

    array = np.full((2, 2, 2), Trap(), object)
    np.save(tmp_path / "train.npy", array)
    np.savez(tmp_path / "test.npz", array)
    for make in find_npz(tmp_path, INFO).values():
        with pytest.raises(ValueError, match="Received: .*[Oo]bject"):
            make()
    assert not (tmp_path / "trap").exists()
