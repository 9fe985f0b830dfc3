"""LMDB environments: raw and encoded values, keys, and the choice of LSUN's category."""

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.lmdb_folder import find_lmdb, find_lsun_lmdb
from tests.data.sources.formats import names, read
from tests.data.sources.writers import encoded, write_environment

INFO = dataset_info("imagenet32")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


def numbered(values):
    return {b"%d" % index: value for index, value in enumerate(values)}


@pytest.mark.parametrize("name, split", [("valid", "validation"), ("val", "validation"), ("test", "test")])
def test_names_of_environments_and_order_of_keys(tmp_path, name, split):
    write_environment(tmp_path / "train.lmdb", numbered(image.tobytes() for image in IMAGES))
    write_environment(tmp_path / f"{name}.lmdb", numbered([IMAGES[0].tobytes()]))
    splits = find_lmdb(tmp_path, INFO)
    assert set(splits) == {"train", split} and splits[split]().num_images == 1
    train = splits["train"]()
    np.testing.assert_array_equal(read(train), IMAGES)  # 10 and 11 come after 9, unlike the keys
    assert names(train)[11] == f"{tmp_path}/train.lmdb, key 11"


def test_image_files_and_raw_pixels_of_one_length(tmp_path):
    grey = np.full((40, 40, 3), 7, np.uint8)
    file = encoded(grey, "JPEG", quality=95)
    file += bytes(32 * 32 * 3 - len(file))
    pink = np.full((32, 32, 3), (255, 216, 255), np.uint8)  # begins like a JPEG file
    write_environment(tmp_path / "train.lmdb", numbered([file, pink.tobytes(), encoded(IMAGES[0])]))
    images = [image for _, image in find_lmdb(tmp_path, INFO)["train"]().read(np.arange(3))]
    for image, expected in zip(images, (grey, pink, IMAGES[0]), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_missing_key(tmp_path):
    write_environment(tmp_path / "train.lmdb", {b"0": IMAGES[0].tobytes(), b"one": b"", b"2": IMAGES[2].tobytes()})
    (_, first), (name, error), (_, last) = find_lmdb(tmp_path, INFO)["train"]().read(np.arange(3))
    np.testing.assert_array_equal([first, last], IMAGES[[0, 2]])
    assert (
        isinstance(error, DamagedImageError) and str(error) == f"{name}: expected a value with this key. Received: none"
    )


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>" * 1000])
def test_file_that_is_not_lmdb(tmp_path, data):
    (tmp_path / "train.lmdb").write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path}/train.lmdb: expected .* Received: "):
        find_lmdb(tmp_path, INFO)["train"]()


@pytest.mark.parametrize(
    ("name", "category"),
    [("lsun_bedroom128", "bedroom"), ("lsun_church64", "church_outdoor"), ("lsun_tower128", "tower")],
)
def test_lsun_category_of_a_data_set(tmp_path, name, category):
    write_environment(tmp_path / "kitchen_train_lmdb", {b"x": encoded(IMAGES[4])})
    assert find_lsun_lmdb(tmp_path, dataset_info(name)) is None
    values = {b"ff\0": encoded(IMAGES[0]), b"aa": encoded(IMAGES[1]), b"aa00": encoded(IMAGES[2])}
    write_environment(tmp_path / f"{category}_train_lmdb", values)
    split = find_lsun_lmdb(tmp_path, dataset_info(name))["train"]()
    np.testing.assert_array_equal(read(split), IMAGES[[1, 2, 0]])
    assert names(split)[1] == f"{tmp_path}/{category}_train_lmdb, key aa00"


def test_lsun_category_of_a_folder(tmp_path):
    info = dataset_info("folder").with_size(32, 3)
    write_environment(tmp_path / "kitchen_train_lmdb", {b"x": encoded(IMAGES[0])})
    assert list(find_lsun_lmdb(tmp_path, info)) == ["train"]
    [(split, make)] = find_lsun_lmdb(tmp_path / "kitchen_train_lmdb", info).items()
    assert split == "all"
    np.testing.assert_array_equal(read(make()), IMAGES[:1])
    write_environment(tmp_path / "tower_val_lmdb", {b"x": encoded(IMAGES[0])})
    with pytest.raises(ValueError, match=r"expected one category of LSUN. Received: \['kitchen', 'tower'\]"):
        find_lsun_lmdb(tmp_path, info)
