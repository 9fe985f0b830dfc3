"""LMDB environments: numbered and LSUN's, raw and encoded values, shared handles, damaged values and files."""

import concurrent.futures
import dataclasses
import gc
import io
import os
import pickle

import lmdb
import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.parallel import map_in_order
from nvae_tf.data.sources.lmdb_folder import find_lmdb, find_lsun_lmdb

INFO = dataset_info("imagenet32")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


def encoded(image, kind="PNG", **arguments):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **arguments)
    return buffer.getvalue()


def write(path, values, subdir=True):
    """An environment with {key: value}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as environment, environment.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)


def numbered(values):
    return {str(index).encode(): value for index, value in enumerate(values)}


def read_all(store):
    return np.stack([store.read(index) for index in range(len(store))])


@pytest.mark.parametrize("subdir", [True, False])
@pytest.mark.parametrize(
    ("name", "split"),
    [("validation", "validation"), ("valid", "validation"), ("val", "validation"), ("test", "test")],
)
def test_raw_values(tmp_path, subdir, name, split):
    write(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES), subdir)
    write(tmp_path / f"{name}.lmdb", numbered(image.tobytes() for image in IMAGES[:2]), subdir)
    splits = find_lmdb(tmp_path, INFO)
    assert set(splits) == {"train", split}
    store = splits["train"]()
    np.testing.assert_array_equal(read_all(store), IMAGES)  # 10 and 11 after 9, whatever the order of the keys
    np.testing.assert_array_equal(read_all(splits[split]()), IMAGES[:2])
    assert store.source == f"{tmp_path}/train.lmdb" and store.name(11) == f"{tmp_path}/train.lmdb, key 11"


def test_encoded_values(tmp_path):
    info = dataset_info("celeba64")
    portrait = np.random.default_rng(1).integers(0, 256, (218, 178, 3), np.uint8)
    square = portrait[:64, :64]
    write(tmp_path / "train.lmdb", numbered([encoded(portrait), encoded(square), square.tobytes()]))
    store = find_lmdb(tmp_path, info)["train"]()
    np.testing.assert_array_equal(store.read(0), portrait)
    np.testing.assert_array_equal(store.read(1), square)
    np.testing.assert_array_equal(store.read(2), square)


def test_image_file_that_is_as_long_as_raw_pixels(tmp_path):
    grey = np.full((40, 40, 3), 7, np.uint8)
    file = encoded(grey, "JPEG", quality=95)
    file += bytes(32 * 32 * 3 - len(file))
    pink = np.full((32, 32, 3), (255, 216, 255), np.uint8)  # begins as a JPEG file does
    write(tmp_path / "train.lmdb", numbered([file, pink.tobytes()]))
    store = find_lmdb(tmp_path, INFO)["train"]()
    np.testing.assert_array_equal(store.read(0), grey)
    np.testing.assert_array_equal(store.read(1), pink)


@pytest.mark.parametrize("value", [b"", b"neither", IMAGES[0].tobytes()[:-1], encoded(IMAGES[0])[:-500]])
def test_damaged_value_leaves_the_others(tmp_path, value):
    write(tmp_path / "train.lmdb", numbered([IMAGES[0].tobytes(), value, IMAGES[2].tobytes()]))
    store = find_lmdb(tmp_path, INFO)["train"]()
    np.testing.assert_array_equal(store.read(0), IMAGES[0])
    np.testing.assert_array_equal(store.read(2), IMAGES[2])
    with pytest.raises(DamagedImageError, match=rf"train.lmdb, key 1: expected .*Received: {len(value)} bytes"):
        store.read(1)


def test_missing_key(tmp_path):
    values = {b"0": IMAGES[0].tobytes(), b"one": b"", b"2": IMAGES[2].tobytes()}
    write(tmp_path / "train.lmdb", values)
    store = find_lmdb(tmp_path, INFO)["train"]()
    with pytest.raises(DamagedImageError, match="train.lmdb, key 1: expected a value. Received: none"):
        store.read(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "keys 0 to 0. Received: 0 entries, none with the key 0"),
        ({b"a": b"x"}, "keys 0 to 0. Received: 1 entries, none with the key 0"),
        ({b"0": b"x", b"7": b"x"}, "keys 0 to 1. Received: 2 entries, none with the key 1"),
    ],
)
def test_other_keys(tmp_path, values, message):
    write(tmp_path / "train.lmdb", values)
    with pytest.raises(ValueError, match=f"train.lmdb: expected entries with the {message}"):
        find_lmdb(tmp_path, INFO)["train"]()


def cut(size):
    return lambda data: data[:size]


def changed(place):
    return lambda data: data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize("subdir", [True, False])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(0), ".* Received: 0 bytes, cut short"),
        (cut(100), ".* Received: 100 bytes, cut short"),
        (cut(4096 + 50), ".* Received: 4146 bytes, cut short"),
        (cut(-1), r"of \d+ bytes or more. Received: \d+ bytes"),
        (cut(3 * 4096), r"of \d+ bytes or more. Received: 12288 bytes"),
        (changed(16), "with magic 0xbeefc0de, version 1. Received: magic 0xbeefc021"),
        (changed(4096 + 20), ".*Received: magic 0xbeefc0de, version 254"),
        (changed(40), ".*pages of 4351 bytes"),
        (lambda data: bytes(len(data)), ".*Received: magic 0x0"),
        (lambda data: b"<html>not found</html>" * 1000, ".*Received: magic 0x"),
    ],
)
def test_damaged_file_is_not_opened(tmp_path, subdir, damage, message):
    path = tmp_path / "train.lmdb"
    write(path, numbered(image.tobytes() for image in IMAGES), subdir)
    file = path / "data.mdb" if subdir else path
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{file}: expected an LMDB file ?{message}"):
        find_lmdb(tmp_path, INFO)["train"]()


def test_several_stores_of_one_file_which_is_written_again(tmp_path):
    write(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "train.lmdb").symlink_to(tmp_path / "train.lmdb")
    stores = [find_lmdb(folder, INFO)["train"]() for folder in (tmp_path, tmp_path, tmp_path / "link")]
    stores.append(pickle.loads(pickle.dumps(stores[0])))
    for store in stores:
        np.testing.assert_array_equal(store.read(5), IMAGES[5])
    del store, stores
    gc.collect()
    write(tmp_path / "train.lmdb", {b"12": IMAGES[0].tobytes()})
    assert len(find_lmdb(tmp_path, INFO)["train"]()) == 13


def test_threads(tmp_path):
    write(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES))
    store = find_lmdb(tmp_path, INFO)["train"]()
    order = np.random.default_rng(2).integers(0, 12, 400).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(store.read, order))), IMAGES[order])


def read_in_process(store):
    return os.getpid(), read_all(store)


def test_other_process(tmp_path):
    values = {f"{index:x}".encode() * 9: encoded(image) for index, image in enumerate(IMAGES)}
    write(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES))
    write(tmp_path / "tower_train_lmdb", values)
    stores = [find_lmdb(tmp_path, INFO)["train"](), find_lsun_lmdb(tmp_path, dataset_info("lsun_tower128"))["train"]()]
    for process, images in map_in_order(read_in_process, stores, 1):
        assert process != os.getpid()
        np.testing.assert_array_equal(images, IMAGES)


@pytest.mark.parametrize(
    ("name", "category"),
    [("lsun_bedroom128", "bedroom"), ("lsun_church64", "church_outdoor"), ("lsun_tower128", "tower")],
)
@pytest.mark.parametrize("below", ["", "lsun"])
def test_lsun(tmp_path, name, category, below):
    wide = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    values = {b"ff\0": encoded(wide, "WEBP", lossless=True), b"aa": encoded(IMAGES[1]), b"aa00": encoded(IMAGES[2])}
    write(tmp_path / below / f"{category}_train_lmdb", values)
    write(tmp_path / below / f"{category}_val_lmdb", {b"x": encoded(IMAGES[3])})
    write(tmp_path / below / "kitchen_train_lmdb", {b"x": encoded(IMAGES[4])})
    splits = find_lsun_lmdb(tmp_path, dataset_info(name))
    assert set(splits) == {"train", "validation"}
    store = splits["train"]()
    assert len(store) == 3
    for index, image in enumerate((IMAGES[1], IMAGES[2], wide)):
        np.testing.assert_array_equal(store.read(index), image)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(index), image)
    assert store.name(1) == f"{tmp_path / below}/{category}_train_lmdb, key aa00"
    np.testing.assert_array_equal(splits["validation"]().read(0), IMAGES[3])


def test_lsun_damaged_value(tmp_path):
    values = {b"a": encoded(IMAGES[0]), b"b": b"", b"c": encoded(IMAGES[2])}
    write(tmp_path / "tower_val_lmdb", values)
    store = find_lsun_lmdb(tmp_path, dataset_info("lsun_tower128"))["validation"]()
    np.testing.assert_array_equal(store.read(2), IMAGES[2])
    with pytest.raises(DamagedImageError, match="tower_val_lmdb, key b: expected a PNG"):
        store.read(1)


def test_lsun_category_of_a_folder(tmp_path):
    info = dataclasses.replace(dataset_info("folder"), image_size=32, channels=3)
    assert find_lsun_lmdb(tmp_path, info) is None
    write(tmp_path / "kitchen_train_lmdb", {b"x": encoded(IMAGES[0])})
    assert list(find_lsun_lmdb(tmp_path, info)) == ["train"]
    whole = find_lsun_lmdb(tmp_path / "kitchen_train_lmdb", info)
    assert list(whole) == ["all"]
    np.testing.assert_array_equal(whole["all"]().read(0), IMAGES[0])
    write(tmp_path / "tower_val_lmdb", {b"x": encoded(IMAGES[0])})
    with pytest.raises(ValueError, match=r"expected one category of LSUN. Received: \['kitchen', 'tower'\]"):
        find_lsun_lmdb(tmp_path, info)
    assert find_lsun_lmdb(tmp_path, dataset_info("lsun_bedroom128")) is None


def test_nothing_there(tmp_path):
    (tmp_path / "train.lmdb").mkdir()
    assert find_lmdb(tmp_path, INFO) is None


def test_a_damaged_page_is_a_damaged_image(tmp_path):
    write(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES))
    file = tmp_path / "train.lmdb" / "data.mdb"
    data = bytearray(file.read_bytes())
    # Every image has a page of its own, of kind 4, in their order.
    starts = [at for at in range(8192, len(data), 4096) if data[at : at + 12] == bytes([at // 4096, *bytes(9), 4, 0])]
    data[starts[5] + 10] = 1
    file.write_bytes(data)
    store = find_lmdb(tmp_path, INFO)["train"]()
    with pytest.raises(DamagedImageError, match=rf"^{tmp_path}/train.lmdb, key b'5': expected a value. Received: page"):
        store.read(5)
    np.testing.assert_array_equal(np.stack([store.read(index) for index in (4, 6)]), IMAGES[[4, 6]])


def test_lsun_with_damaged_pages(tmp_path):
    path = tmp_path / "tower_train_lmdb"
    write(path, {b"%d" % index: encoded(IMAGES[0]) for index in range(200)})
    data = bytearray((path / "data.mdb").read_bytes())
    for start in range(8192, len(data), 4096):
        if data[start + 10] == 1:  # a page of keys that lead to other pages
            data[start + 12] = 16  # has none any more
            data[start + 13] = 0
    (path / "data.mdb").write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: expected 200 entries. Received: 0"):
        find_lsun_lmdb(tmp_path, dataset_info("lsun_tower128"))["train"]()
