"""OMNIGLOT: chardata.mat, the image tree and its archives, damaged and out of range."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.omniglot import find_omniglot_mat, find_omniglot_tree

INFO = dataset_info("omniglot")
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)


def columns_of(images):
    return np.stack([image.flatten(order="F") / 255 for image in images], axis=1)


def write_mat(path, data=IMAGES, testdata=IMAGES[4:], **arguments):
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {"data": columns_of(data), "testdata": columns_of(testdata), "target": np.eye(50)}
    scipy.io.savemat(path, contents, **arguments)


def read_all(store):
    return np.stack([store.read(index) for index in range(len(store))])


@pytest.mark.parametrize("arguments", [{}, {"do_compression": True}])
@pytest.mark.parametrize("folder", ["", "omniglot"])
def test_mat(tmp_path, arguments, folder):
    write_mat(tmp_path / folder / "chardata.mat", **arguments)
    splits = find_omniglot_mat(tmp_path, INFO)
    assert set(splits) == {"train", "test"}
    np.testing.assert_array_equal(splits["train"]().as_array()[..., 0], IMAGES)
    np.testing.assert_array_equal(read_all(splits["test"]())[..., 0], IMAGES[4:])
    assert splits["test"]().name(1) == f"{tmp_path / folder}/chardata.mat, testdata, image 1"


def test_mat_levels_are_rounded(tmp_path):
    values = np.array([0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0], np.float32)
    scipy.io.savemat(tmp_path / "chardata.mat", {"data": np.resize(values, (784, 1)), "testdata": 0})
    image = find_omniglot_mat(tmp_path, INFO)["train"]().read(0)
    np.testing.assert_array_equal(image[:5, 0, 0], [0, 0, 1, 254, 255])


@pytest.mark.parametrize(("value", "received"), [(-0.1, "-0.1 to"), (1.5, "to 1.5"), (np.nan, "nan to nan")])
def test_mat_with_values_out_of_range(tmp_path, value, received):
    columns = columns_of(IMAGES)
    columns[100, 3] = value
    scipy.io.savemat(tmp_path / "chardata.mat", {"data": columns, "testdata": columns[:, 4:]})
    splits = find_omniglot_mat(tmp_path, INFO)
    with pytest.raises(ValueError, match=rf"chardata.mat: expected values of 0 to 1 in column 3 of 'data'.*{received}"):
        splits["train"]()
    np.testing.assert_array_equal(splits["test"]().as_array()[..., 0], IMAGES[4:])


@pytest.mark.parametrize(
    ("contents", "received"),
    [
        ({"other": np.zeros((784, 2))}, "'data' of shape none"),
        ({"data": np.zeros((2, 784))}, r"'data' of shape \(2, 784\)"),
        ({"data": np.zeros((784, 0))}, r"'data' of shape \(784, 0\)"),
        ({"data": np.zeros((784, 2, 2))}, r"'data' of shape \(784, 2, 2\)"),
        ({"data": np.full((784, 2), "x", object)}, "'data', which is no array of real numbers"),
    ],
)
def test_other_mat(tmp_path, contents, received):
    scipy.io.savemat(tmp_path / "chardata.mat", contents)
    with pytest.raises(ValueError, match=rf"chardata.mat: expected a .mat file .*Received: \d+ bytes .*{received}"):
        find_omniglot_mat(tmp_path, INFO)["train"]()


PAPER = np.full((105, 105), True)
DRAWINGS = [PAPER.copy() for _ in range(3)]
for _number, _drawing in enumerate(DRAWINGS):
    _drawing[10 * _number : 10 * _number + 5, 20:60] = False  # ink
NAMES = ["Greek/character01/0001_01.png", "Greek/character02/0002_01.png", "Latin/character01/0003_01.png"]


def png(drawing):
    buffer = io.BytesIO()
    Image.fromarray(drawing).save(buffer, "PNG")  # of one bit, as the authors' files
    return buffer.getvalue()


def write_tree(folder, drawings=DRAWINGS):
    for name, drawing in zip(NAMES, drawings, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(drawing) if isinstance(drawing, np.ndarray) else drawing)


def write_zip(path, drawings=DRAWINGS):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, drawing in zip(NAMES, drawings, strict=False):
            content = png(drawing) if isinstance(drawing, np.ndarray) else drawing
            archive.writestr(f"{path.stem}/{name}", content)


def inverted(drawings):
    return np.stack([np.where(drawing, 0, 255) for drawing in drawings])


@pytest.mark.parametrize("folder", ["", "omniglot", "omniglot-py", "python"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_tree(tmp_path, kind, folder):
    if kind == "folder":
        write_tree(tmp_path / folder / "images_background")
        write_tree(tmp_path / folder / "images_evaluation", DRAWINGS[:1])
    else:
        write_zip(tmp_path / folder / "images_background.zip")
        write_zip(tmp_path / folder / "images_evaluation.zip", DRAWINGS[:1])
    splits = find_omniglot_tree(tmp_path, INFO)
    assert set(splits) == {"train", "test"}
    store = splits["train"]()
    np.testing.assert_array_equal(read_all(store)[..., 0], inverted(DRAWINGS))
    np.testing.assert_array_equal(read_all(splits["test"]())[..., 0], inverted(DRAWINGS[:1]))
    assert store.name(2).endswith(NAMES[2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(1)[..., 0], inverted(DRAWINGS)[1])


def test_tree_in_part(tmp_path):
    write_zip(tmp_path / "images_evaluation.zip")
    assert list(find_omniglot_tree(tmp_path, INFO)) == ["test"]
    write_tree(tmp_path / "images_background")
    assert list(find_omniglot_tree(tmp_path, INFO)) == ["train", "test"]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_damaged_image_leaves_the_others(tmp_path, kind):
    drawings = [DRAWINGS[0], b"no image", DRAWINGS[2]]
    if kind == "folder":
        write_tree(tmp_path / "images_background", drawings)
    else:
        write_zip(tmp_path / "images_background.zip", drawings)
    store = find_omniglot_tree(tmp_path, INFO)["train"]()
    np.testing.assert_array_equal(store.read(2)[..., 0], inverted(DRAWINGS)[2])
    with pytest.raises(DamagedImageError, match=f"images_background.*{NAMES[1]}: expected a PNG"):
        store.read(1)


def test_damaged_zip(tmp_path):
    (tmp_path / "images_background.zip").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="images_background.zip: expected a zip file"):
        find_omniglot_tree(tmp_path, INFO)["train"]()


def test_nothing_there(tmp_path):
    (tmp_path / "images").mkdir()
    assert find_omniglot_mat(tmp_path, INFO) is None
    assert find_omniglot_tree(tmp_path, INFO) is None
