"""CelebA's list of splits and OMNIGLOT's chardata.mat: their variants, and unexpected content."""

import pathlib

import numpy as np
import pytest
import scipy.io

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.celeba_tree import find_celeba_tree
from nvae_tf.data.sources.omniglot import find_omniglot_mat, find_omniglot_tree
from tests.data.sources.formats import names, read
from tests.data.sources.writers import encoded, put, write_mat, write_zip

CELEBA, OMNIGLOT = dataset_info("celeba64"), dataset_info("omniglot")
PORTRAITS = np.random.default_rng(0).integers(0, 256, (5, 9, 8, 3), np.uint8)
FILES = {f"{number:06}.jpg": encoded(image) for number, image in enumerate(PORTRAITS, 1)}
LIST = "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n000005.jpg 0\n"
SPLITS = {"train": [0, 1, 4], "validation": [2], "test": [3]}


def write_portraits(folder):
    for name, data in FILES.items():
        put(folder / name, data)


@pytest.mark.parametrize(
    ("list_name", "text"),
    [
        ("list_eval_partition.txt", LIST.replace(" ", "  ").replace("\n", " \r\n") + "\n"),
        ("list_eval_partition.csv", "image_id,partition\n" + LIST.replace(" ", ",")),
        ("Anno/list_eval_partition.txt", "\ufeff" + LIST),
    ],
)
@pytest.mark.parametrize(
    "folder", ["img_align_celeba", "celeba/img_align_celeba/img_align_celeba", "celeba/Img/img_align_celeba", "celeba"]
)
def test_celeba_lists_and_folders(tmp_path, list_name, text, folder):
    write_portraits(tmp_path / folder)
    put(tmp_path / folder.partition("/")[0].replace("img_align_celeba", "") / list_name, text.encode())
    splits = {split: make() for split, make in find_celeba_tree(tmp_path, CELEBA).items()}
    assert list(splits) == ["train", "validation", "test"]
    for split, numbers in SPLITS.items():
        np.testing.assert_array_equal(read(splits[split]), PORTRAITS[numbers])
        assert [pathlib.Path(name).name for name in names(splits[split])] == [list(FILES)[n] for n in numbers]


def test_celeba_without_list_or_images(tmp_path):
    write_portraits(tmp_path / "img_align_celeba")
    assert find_celeba_tree(tmp_path, CELEBA) is None
    put(tmp_path / "other" / "list_eval_partition.txt", LIST.encode())
    assert find_celeba_tree(tmp_path / "other", CELEBA) is None


@pytest.mark.parametrize("line", ["000002.jpg 3", "000002.jpg -1", "000002.jpg", "one too many 0"])
def test_celeba_list_with_a_malformed_line(tmp_path, line):
    path = tmp_path / "list_eval_partition.txt"
    path.write_text(f"000001.jpg 0\n{line}\n")
    with pytest.raises(ValueError, match=f"{path}, line 2: expected a file name and 0, 1 or 2. Received: '{line}'"):
        find_celeba_tree(tmp_path, CELEBA)


@pytest.mark.parametrize("archive", [False, True])
def test_celeba_with_missing_images(tmp_path, archive):
    files = {f"img_align_celeba/{name}": FILES[name] for name in ("000001.jpg", "000003.jpg", "000004.jpg")}
    if archive:
        write_zip(tmp_path / "img_align_celeba.zip", files)
        (tmp_path / "img_align_celeba").mkdir()  # left by an attempt to unpack the archive
    else:
        for name, data in files.items():
            put(tmp_path / name, data)
    put(tmp_path / "list_eval_partition.txt", LIST.encode())
    splits = find_celeba_tree(tmp_path, CELEBA)
    assert splits["test"]().num_images == 1
    message = "expected all 3 images of train that .* names. Received: 2 fewer, the first 000002.jpg"
    with pytest.raises(ValueError, match=f"{tmp_path}/img_align_celeba.*: {message}"):
        splits["train"]()


def test_mat_levels_are_rounded(tmp_path):
    values = np.array([0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0], np.float32)
    scipy.io.savemat(tmp_path / "chardata.mat", {"data": np.resize(values, (784, 1)), "testdata": 0})
    [image] = read(find_omniglot_mat(tmp_path, OMNIGLOT)["train"]())
    np.testing.assert_array_equal(image[:5, 0, 0], [0, 0, 1, 254, 255])


@pytest.mark.parametrize("value, received", [(-0.1, "-0.1 to"), (1.5, "to 1.5"), (np.nan, "nan to nan")])
def test_mat_with_values_out_of_range(tmp_path, value, received):
    columns = np.zeros((784, 5))
    columns[100, 3] = value
    scipy.io.savemat(tmp_path / "chardata.mat", {"data": columns})
    with pytest.raises(ValueError, match=rf"chardata.mat: expected values of 0 to 1 in 'data'.*{received}"):
        find_omniglot_mat(tmp_path, OMNIGLOT)["train"]()


@pytest.mark.parametrize("contents", [{"other": np.zeros((784, 2))}, {"data": np.zeros((2, 784))}, {"data": "text"}])
def test_mat_with_other_content(tmp_path, contents):
    scipy.io.savemat(tmp_path / "chardata.mat", contents)
    with pytest.raises(ValueError, match=r"chardata.mat: expected 'data' as numbers \[784, N\]. Received: \["):
        find_omniglot_mat(tmp_path, OMNIGLOT)["train"]()


@pytest.mark.parametrize("folder", ["omniglot", "omniglot-py", "python"])
def test_omniglot_in_a_folder_of_its_own_name(tmp_path, folder):
    drawing = np.zeros((105, 105, 1), np.uint8)
    drawing[:5, 20:60] = 255  # ink is black in the files
    put(tmp_path / folder / "images_evaluation" / "Greek" / "0001_01.png", encoded(255 - drawing))
    splits = find_omniglot_tree(tmp_path, OMNIGLOT)
    assert list(splits) == ["test"]
    np.testing.assert_array_equal(read(splits["test"]()), [drawing])
    if folder == "omniglot":
        write_mat(tmp_path / folder, {"train": drawing[np.newaxis, :28, :28], "test": drawing[np.newaxis, :28, :28]})
        assert set(find_omniglot_mat(tmp_path, OMNIGLOT)) == {"train", "test"}
