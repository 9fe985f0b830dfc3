"""NumPy arrays of images."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.arrays import find_npz

INFO = dataset_info("folder").with_size(5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
GREY = IMAGES[..., 0]
LABELS = np.arange(6)


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def check(store, images):
    assert len(store) == len(images)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(store.read(index), image)


def opened(root, info=INFO):
    return {split: make() for split, make in find_npz(root, info).items()}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.npy", "test.npy"], ["train", "test"]),
        (["train.npy", "val.npy"], ["train", "validation"]),
        (["Train.NPY", "valid.npz", "testing.npy"], ["train", "validation", "test"]),
        (["x_train.npy", "x_test.npy"], ["train", "test"]),
        (["train_32x32.npz", "valid_32x32.npz"], ["train", "validation"]),
        (["test.npy"], ["test"]),
        (["train.npz"], ["train"]),
        (["faces.npy"], ["all"]),
        (["faces.npz"], ["all"]),
    ],
)
def test_files(tmp_path, names, splits):
    for start, name in enumerate(names):
        with open(tmp_path / name, "wb") as file:
            (np.save if name.lower().endswith(".npy") else np.savez)(file, IMAGES[start:])
    found = opened(tmp_path)
    assert set(found) == set(splits)
    for start, split in enumerate(splits):
        check(found[split], IMAGES[start:])


def test_other_files_do_not_matter(tmp_path):
    np.save(tmp_path / "faces.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    np.save(tmp_path / ".faces.npy", IMAGES)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    assert list(opened(tmp_path)) == ["all"]
    np.save(tmp_path / "train.npy", IMAGES[:1])
    check(opened(tmp_path)["train"], IMAGES[:1])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (["train", "test"], ["train", "test"]),
        (["train", "validation", "test"], ["train", "validation", "test"]),
        (["x_train", "x_test"], ["train", "test"]),
        (["train_images", "val_images", "test_images"], ["train", "validation", "test"]),
        (["anything"], ["all"]),
    ],
)
def test_keys_of_one_file(tmp_path, save, keys, splits):
    save(tmp_path / "set.npz", y_train=LABELS, **{key: IMAGES[start:] for start, key in enumerate(keys)})
    found = opened(tmp_path)
    assert list(found) == sorted(splits, key=list(found).index) and set(found) == set(splits)
    for start, split in enumerate(splits):
        check(found[split], IMAGES[start:])


def test_the_array_of_images_among_others(tmp_path):
    np.savez(tmp_path / "set.npz", mean=np.zeros((5, 4, 3)), faces=IMAGES, y=LABELS)
    check(opened(tmp_path)["all"], IMAGES)
    np.savez(tmp_path / "set.npz", masks=IMAGES[..., :1], images=IMAGES)
    check(opened(tmp_path)["all"], IMAGES)
    np.savez(tmp_path / "set.npz", masks=IMAGES[..., :1], faces=IMAGES)
    with pytest.raises(ValueError, match="set.npz: expected one array of uint8 .* Received: masks, faces"):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_grey_arrays(tmp_path, suffix):
    (np.save if suffix == "npy" else np.savez)(tmp_path / f"train.{suffix}", GREY)
    info = dataset_info("mnist")
    store = opened(tmp_path, info)["train"]
    check(store, GREY[..., np.newaxis])
    np.testing.assert_array_equal(store.as_array(), GREY[..., np.newaxis])
    colour = opened(tmp_path)["train"]
    check(colour, np.repeat(GREY[..., np.newaxis], 3, axis=3))
    assert colour.as_array() is None


def test_transparency_lies_over_white(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[[[9, 8, 7, 255], [9, 8, 7, 0]]]], np.uint8))
    check(opened(tmp_path)["all"], [[[[9, 8, 7], [255, 255, 255]]]])


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_fortran_order(tmp_path, suffix):
    (np.save if suffix == "npy" else np.savez)(tmp_path / f"a.{suffix}", np.asfortranarray(IMAGES))
    check(opened(tmp_path)["all"], IMAGES)


def test_header_of_version_2(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, IMAGES, version=(2, 0))
    check(opened(tmp_path)["all"], IMAGES)


def test_npy_is_neither_read_nor_pickled(tmp_path):
    count = 2**24
    with open(tmp_path / "train.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 3072)  # 48 GiB, none of them on the disk
        file.seek(-1, io.SEEK_END)
        file.write(b"\7")
    tracemalloc.start()
    store = opened(tmp_path)["train"]
    assert store.read(count - 1)[-1, -1, -1] == 7
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read(count - 1)[-1, -1, -1] == 7 and store.as_array().shape == (count, 32, 32, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(pickle.dumps(store)) < 1000


def test_names(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    store = opened(tmp_path)["all"]
    assert store.name(2) == f"{tmp_path}/a.npy, image 2" and store.source == f"{tmp_path}/a.npy"
    (tmp_path / "a.npy").unlink()
    np.savez(tmp_path / "set.npz", x_train=IMAGES)
    assert opened(tmp_path)["train"].name(2) == f"{tmp_path}/set.npz, x_train, image 2"


def test_nothing_of_images(tmp_path):
    assert find_npz(tmp_path, INFO) is None
    np.save(tmp_path / "labels.npy", LABELS)
    np.savez(tmp_path / "train_data_batch_1.npz", data=IMAGES.reshape(6, -1), labels=LABELS)
    assert find_npz(tmp_path, INFO) is None


def test_several_files_that_no_split_is_named_after(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "b.npz", IMAGES)
    with pytest.raises(ValueError, match="one .npy or .npz file, or one for each split. Received: a.npy, b.npz"):
        find_npz(tmp_path, INFO)


def test_two_files_of_one_split(tmp_path):
    np.save(tmp_path / "train.npy", IMAGES)
    np.savez(tmp_path / "train.npz", IMAGES)
    with pytest.raises(ValueError, match="one name for the split 'train'. Received: train.npy, train.npz"):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("name", ["train.npy", "train.npz", "set.npz"])
@pytest.mark.parametrize(
    ("array", "received"),
    [
        (IMAGES / np.float32(255), r"float32 \[6, 5, 4, 3\]; values of 0 to 255 as uint8 are what is read"),
        (IMAGES.astype(int), r"int64 \[6, 5, 4, 3\]; values of 0 to 255 as uint8 are what is read"),
        (np.zeros((6, 3, 5, 8), np.uint8), r"uint8 \[6, 3, 5, 8\]; channels come last, not first"),
        (np.zeros((6, 1, 8, 8)), r"float64 \[6, 1, 8, 8\]; channels come last, not first"),
        (np.zeros((6, 5, 4, 2), np.uint8), r"uint8 \[6, 5, 4, 2\]"),
        (IMAGES[:0], r"uint8 \[0, 5, 4, 3\]"),
        (IMAGES[:, :0], r"uint8 \[6, 0, 4, 3\]"),
        (IMAGES.reshape(6, 60), r"uint8 \[6, 60\]"),
        (np.zeros((), np.uint8), r"uint8 \[\]"),
        (np.full((6, 5, 4), "text", object), r"object \[6, 5, 4\]"),
    ],
)
def test_arrays_of_something_else(tmp_path, name, array, received):
    save = np.save if name.endswith(".npy") else np.savez
    save(tmp_path / name, **({"arr": array} if save is np.save else {"x_train": array}))
    label = {"train.npy": "train.npy", "train.npz": "train.npz, x_train.npy", "set.npz": "set.npz, x_train.npy"}[name]
    make = find_npz(tmp_path, INFO)["train"]
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{label}: expected uint8 \[N, H, W\].*Received: {received}"):
        make()


def test_split_file_without_images_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "train.npz", data=IMAGES.reshape(6, 60), labels=LABELS)
    np.savez(tmp_path / "test.npz", IMAGES)
    with pytest.raises(ValueError, match=r"train.npz: .* Received: data uint8 \[6, 60\], labels int64 \[6\]"):
        find_npz(tmp_path, INFO)["train"]()


@pytest.mark.parametrize("name", ["train.npy", "faces.npy"])
@pytest.mark.parametrize("cut", [-1, 1, -300])
def test_npy_of_another_size(tmp_path, name, cut):
    data = npy_bytes(IMAGES)
    (tmp_path / name).write_bytes(data[:cut] if cut < 0 else data + b"x" * cut)
    make = next(iter(find_npz(tmp_path, INFO).values()))
    message = rf"{name}: expected {len(data)} bytes for \[6, 5, 4, 3\]. Received: {len(data) + cut} bytes"
    with pytest.raises(ValueError, match=message):
        make()


def with_shape(shape, num_bytes=360):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(num_bytes)


@pytest.mark.parametrize("name", ["train.npy", "set.npz"])
@pytest.mark.parametrize("shape", ["(10000000000, 64, 64, 3)", "(99999999999999999999, 64, 64, 3)", "(-6, 5, 4, 3)"])
def test_header_that_claims_too_much(tmp_path, name, shape):
    if name == "train.npy":
        (tmp_path / name).write_bytes(with_shape(shape))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("train.npy", with_shape(shape))
    make = find_npz(tmp_path, INFO)["train"]
    with pytest.raises(ValueError, match=f"{name}.*: expected .* Received: "):
        make()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUM",
        b"text" * 50,
        npy_bytes(IMAGES)[:40],
        npy_bytes(IMAGES).replace(b"'shape'", b"'sharp'"),
        npy_bytes(IMAGES).replace(b"\1\0", b"\7\0", 1),
        npy_bytes(IMAGES).replace(b"'|u1'", b"f(11)"),
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 50_000,
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_damaged_header(tmp_path, data, archive):
    path = tmp_path / ("a.npz" if archive else "train.npy")
    path.write_bytes(data)
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("train.npy", data)
    with pytest.raises(ValueError, match=rf"^{path}.*: expected the header of a NumPy array. Received: "):
        find_npz(tmp_path, INFO)["train"]()


@pytest.mark.parametrize("size", [0, 100, -1])
def test_npz_cut_short(tmp_path, size):
    path = tmp_path / "a.npz"
    np.savez(path, train=IMAGES)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"^{path}: expected an .npz file. Received: \d+ bytes, damaged \(File"):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_damaged_values(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, train=np.random.default_rng(1).integers(0, 256, (99, 16, 16, 3), np.uint8), test=IMAGES)
    data = bytearray(path.read_bytes())
    data[60_000:60_010] = bytes(value ^ 255 for value in data[60_000:60_010])
    path.write_bytes(data)
    splits = find_npz(tmp_path, INFO)
    check(splits["test"](), IMAGES)
    with pytest.raises(ValueError, match=rf"^{path}: expected an .npz file. Received: {len(data)} bytes, damaged \("):
        splits["train"]()


def test_npz_that_claims_more_than_can_be_compressed(tmp_path):
    path, size = tmp_path / "a.npz", 2**31
    claim = with_shape(f"({size - 128}, 1, 1, 1)", 0)
    assert len(claim) == 128
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", claim)
    data = path.read_bytes()
    entry = data.index(b"PK\1\2")
    path.write_bytes(data[: entry + 24] + struct.pack("<I", size) + data[entry + 28 :])
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"{path}: .*train.npy of {size} bytes, of which at most \d+ are there"):
        find_npz(tmp_path, INFO)["train"]()
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_npz_whose_entry_lies_before_its_beginning(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, IMAGES)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")  # where the list of entries begins is said four bytes before the end
    data[end + 16 : end + 20] = (int.from_bytes(data[end + 16 : end + 20], "little") + 5000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{path}: expected an .npz file. Received: {len(data)} bytes, damaged \("):
        find_npz(tmp_path, INFO)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_of_another_compression(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("train.npy", npy_bytes(IMAGES))
    with pytest.raises(ValueError, match="train.npy: expected a stored or deflated entry. Received: method 1[24]"):
        find_npz(tmp_path, INFO)


def test_no_pickle_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("trap").touch, ())

    array = np.full((2, 2, 2), Trap(), object)
    np.save(tmp_path / "train.npy", array)
    np.savez(tmp_path / "test.npz", array)
    for make in find_npz(tmp_path, INFO).values():
        with pytest.raises(ValueError, match="Received: object"):
            make()
    assert not (tmp_path / "trap").exists()
