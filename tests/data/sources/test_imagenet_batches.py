"""ImageNet's batches of 2021: pickled and .npz, in order, in two threads and processes, damaged and oversized."""

import concurrent.futures
import dataclasses
import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.imagenet_batches import find_pickled_batches

INFO = dataset_info("imagenet32_2021")
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)


def rows_of(images):
    return np.stack([images[..., channel].reshape(len(images), -1) for channel in range(3)], axis=1).reshape(
        len(images), -1
    )


def write_pickle(path, images, protocol=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = {"data": rows_of(images), "labels": [7] * len(images), "mean": rows_of(images).mean(0)}
    path.write_bytes(pickle.dumps(batch, protocol))


def write_npz(path, images, save=np.savez_compressed):
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, data=rows_of(images), labels=np.full(len(images), 7), mean=rows_of(images).mean(0))


def write_all(folder, kind, **arguments):
    # Eleven batches: 10 and 11 come after 9, not after 1.
    for number in range(1, 12):
        images = IMAGES[5 * (number - 1) : 5 * number]
        if kind == "pickle":
            write_pickle(folder / f"train_data_batch_{number}", images, **arguments)
        else:
            write_npz(folder / f"train_data_batch_{number}.npz", images, **arguments)
    if kind == "pickle":
        write_pickle(folder / "val_data", IMAGES[55:], **arguments)
    else:
        write_npz(folder / "val_data.npz", IMAGES[55:], **arguments)


def read_all(store):
    return np.stack([store.read(index) for index in range(len(store))])


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("pickle", {"protocol": 2}), ("pickle", {"protocol": 4}), ("npz", {}), ("npz", {"save": np.savez})],
)
def test_batches_in_order(tmp_path, kind, arguments):
    write_all(tmp_path, kind, **arguments)
    splits = find_pickled_batches(tmp_path, INFO)
    assert list(splits) == ["train", "validation"]
    train, validation = splits["train"](), splits["validation"]()
    np.testing.assert_array_equal(read_all(train), IMAGES[:55])
    np.testing.assert_array_equal(read_all(validation), IMAGES[55:])
    suffix = "" if kind == "pickle" else ".npz"
    assert train.name(47) == f"{tmp_path}/train_data_batch_10{suffix}, image 2"
    assert train.source == f"{tmp_path} (train_data_batch_1{suffix} to train_data_batch_11{suffix})"
    np.testing.assert_array_equal(read_all(pickle.loads(pickle.dumps(train))), IMAGES[:55])
    with pytest.raises(IndexError, match="expected an index below 55. Received: 55"):
        train.read(55)


def test_folders_as_the_archives_make_them(tmp_path):
    info = dataset_info("imagenet64_2021")
    images = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8)
    write_pickle(tmp_path / "Imagenet64_train_part2" / "train_data_batch_6", images[2:4])
    write_pickle(tmp_path / "Imagenet64_train_part1" / "train_data_batch_1", images[:2])
    write_pickle(tmp_path / "Imagenet64_val" / "val_data", images[4:])
    write_pickle(tmp_path / "Imagenet32_train" / "train_data_batch_1", IMAGES)
    splits = find_pickled_batches(tmp_path, info)
    np.testing.assert_array_equal(read_all(splits["train"]()), images[:4])
    np.testing.assert_array_equal(read_all(splits["validation"]()), images[4:])
    assert len(find_pickled_batches(tmp_path, INFO)["train"]()) == 60


def test_grey_model(tmp_path):
    write_pickle(tmp_path / "val_data", IMAGES[:1])
    store = find_pickled_batches(tmp_path, dataclasses.replace(INFO, channels=1))["validation"]()
    expected = IMAGES[0] @ [0.299, 0.587, 0.114]
    assert np.abs(store.read(0)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("kind", ["pickle", "npz"])
def test_threads(tmp_path, kind):
    write_all(tmp_path, kind)
    store = find_pickled_batches(tmp_path, INFO)["train"]()
    order = np.random.default_rng(2).permutation(55).tolist()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(store.read, order))), IMAGES[order])


@pytest.mark.parametrize("kind", ["pickle", "npz"])
def test_memory_is_that_of_two_batches_at_most(tmp_path, kind):
    batch = np.zeros((500, 32, 32, 3), np.uint8)
    for number in range(1, 7):
        if kind == "pickle":
            write_pickle(tmp_path / f"train_data_batch_{number}", batch)
        else:
            write_npz(tmp_path / f"train_data_batch_{number}.npz", batch)
    tracemalloc.start()
    try:
        store = find_pickled_batches(tmp_path, INFO)["train"]()
        assert len(store) == 3000 and tracemalloc.get_traced_memory()[1] < batch.nbytes / 2  # only looked at
        for index in range(0, 3000, 50):
            store.read(index)
        batches = 0.5 if kind == "pickle" else 2.8  # and a buffer
        assert tracemalloc.get_traced_memory()[1] < batches * batch.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["pickle", "npz"])
def test_batches_of_another_size(tmp_path, kind):
    write_all(tmp_path, kind)
    make = find_pickled_batches(tmp_path, dataset_info("imagenet64_2021"))["train"]
    with pytest.raises(ValueError, match=r"train_data_batch_1.*: expected .*\[N, 12288\].*Received: .*\[5, 3072\]"):
        make()


@pytest.mark.parametrize("kind", ["pickle", "npz"])
@pytest.mark.parametrize("size", [0, 100, -1000])
def test_batch_cut_short(tmp_path, kind, size):
    write_all(tmp_path, kind)
    path = next(tmp_path.glob("train_data_batch_2*"))
    path.write_bytes(path.read_bytes()[:size])
    splits = find_pickled_batches(tmp_path, INFO)
    with pytest.raises(ValueError, match="train_data_batch_2.*: expected a"):
        splits["train"]()
    np.testing.assert_array_equal(read_all(splits["validation"]()), IMAGES[55:])


def test_damaged_npz_batch_leaves_the_others(tmp_path):
    write_all(tmp_path, "npz")
    path = tmp_path / "train_data_batch_2.npz"
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)
    store = find_pickled_batches(tmp_path, INFO)["train"]()
    np.testing.assert_array_equal(store.read(4), IMAGES[4])
    np.testing.assert_array_equal(store.read(10), IMAGES[10])
    with pytest.raises(ValueError, match="train_data_batch_2.npz: expected a .npz file with"):
        store.read(5)


def npz_with(header, data, compression=zipfile.ZIP_DEFLATED):
    buffer, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("data.npy", array.getvalue() + data)
    return buffer.getvalue()


def header(shape, descr="|u1"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (npz_with(header((2**40, 3072)), b"x"), "bytes for 1099511627776 images"),
        (npz_with(header((2, 3072)), bytes(3072)), "bytes for 2 images"),
        (npz_with(header((2, 3072), "<f4"), bytes(4 * 2 * 3072)), r"float32 of \[2, 3072\]"),
        (npz_with(header((2, 3072), "|O"), b"cos\nsystem\n."), r"object of \[2, 3072\]"),
        (npz_with(header((0, 3072)), b""), r"uint8 of \[0, 3072\]"),
        (npz_with(header((2, 3072)), bytes(6144), zipfile.ZIP_LZMA), "another compression"),
        (b"no zip", "BadZipFile"),
    ],
)
def test_other_npz(tmp_path, data, received):
    (tmp_path / "val_data.npz").write_bytes(data)
    make = find_pickled_batches(tmp_path, INFO)["validation"]
    with pytest.raises(ValueError, match=rf"val_data.npz: expected a .npz file .*Received: .*{received}"):
        make()


def test_npz_whose_entry_lies_before_its_beginning(tmp_path):
    data = bytearray(npz_with(header((2, 3072)), bytes(6144)))
    end = data.rindex(b"PK\5\6")  # where the list of entries begins is said four bytes before the end
    data[end + 16 : end + 20] = (int.from_bytes(data[end + 16 : end + 20], "little") + 5000).to_bytes(4, "little")
    (tmp_path / "val_data.npz").write_bytes(data)
    with pytest.raises(ValueError, match="val_data.npz: expected a .npz file .*Received: .*Invalid argument"):
        find_pickled_batches(tmp_path, INFO)["validation"]()


def test_unreadable_file_is_no_damage(tmp_path):
    (tmp_path / "val_data.npz").write_bytes(npz_with(header((2, 3072)), bytes(6144)))
    make = find_pickled_batches(tmp_path, INFO)["validation"]
    (tmp_path / "val_data.npz").unlink()
    with pytest.raises(FileNotFoundError):
        make()


def test_npz_without_data(tmp_path):
    np.savez(tmp_path / "val_data.npz", images=rows_of(IMAGES))
    with pytest.raises(ValueError, match="val_data.npz: expected .*KeyError.*data.npy"):
        find_pickled_batches(tmp_path, INFO)["validation"]()


def test_nothing_there(tmp_path):
    (tmp_path / "train_data_batch_1.zip").write_bytes(b"x")
    assert find_pickled_batches(tmp_path, INFO) is None
