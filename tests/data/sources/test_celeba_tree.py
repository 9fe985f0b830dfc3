"""CelebA as its authors hand it out."""

import pathlib
import pickle
import zipfile

import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.celeba_tree import find_celeba_tree, read_partition

INFO = dataset_info("celeba64")
LIST = "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n000005.jpg 0\n"
CSV = "image_id,partition\n" + LIST.replace(" ", ",")
NAMES = {
    "train": ["000001.jpg", "000002.jpg", "000005.jpg"],
    "validation": ["000003.jpg"],
    "test": ["000004.jpg"],
}


def write_images(folder, count=5):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        Image.new("RGB", (178, 218), (40 * number,) * 3).save(folder / f"{number:06}.jpg", quality=95)


def write_zip(path, folder):
    path.parent.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(folder.iterdir(), reverse=True):
            archive.write(image, f"img_align_celeba/{image.name}")


def write_list(path, text=LIST):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)


def check(root):
    """That each split has its images, by their names and their brightness."""
    splits = find_celeba_tree(root, INFO)
    assert list(splits) == ["train", "validation", "test"]
    for split, make in splits.items():
        store = make()
        names = [store.name(index).replace(", entry ", "/").rpartition("/")[2] for index in range(len(store))]
        assert names == NAMES[split]
        for index, name in enumerate(names):
            image = store.read(index)
            assert image.shape == (218, 178, 3) and round(image.mean() / 40) == int(name[:6])


@pytest.mark.parametrize(
    ("list_name", "text"),
    [
        ("list_eval_partition.txt", LIST),
        ("list_eval_partition.txt", LIST.replace(" ", "  ").replace("\n", " \r\n") + "\n"),
        ("list_eval_partition.csv", CSV),
        ("Eval/list_eval_partition.txt", LIST),
        ("Anno/list_eval_partition.txt", "\ufeff" + LIST),
    ],
)
def test_lists(tmp_path, list_name, text):
    write_images(tmp_path / "img_align_celeba")
    write_list(tmp_path / list_name, text)
    check(tmp_path)


@pytest.mark.parametrize(
    "folder",
    ["img_align_celeba", "img_align_celeba/img_align_celeba", "Img/img_align_celeba", "."],
)
@pytest.mark.parametrize("place", [".", "celeba"])
def test_folders(tmp_path, place, folder):
    write_images(tmp_path / place / folder)
    write_list(tmp_path / place / "list_eval_partition.txt")
    check(tmp_path)


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "Img/img_align_celeba.zip"])
def test_archive(tmp_path, name):
    write_images(tmp_path / "source")
    root = tmp_path / "root"
    write_zip(root / name, tmp_path / "source")
    write_list(root / "Eval" / "list_eval_partition.txt")
    (root / "img_align_celeba").mkdir()  # of an attempt to unpack
    check(root)
    store = pickle.loads(pickle.dumps(find_celeba_tree(root, INFO)["test"]()))
    assert store.read(0).mean() == pytest.approx(160, abs=2)


def test_without_list_or_images(tmp_path):
    write_images(tmp_path / "img_align_celeba", 1)
    assert find_celeba_tree(tmp_path, INFO) is None
    other = tmp_path / "other"
    write_list(other / "list_eval_partition.txt")
    assert find_celeba_tree(other, INFO) is None
    write_list(tmp_path / "list_eval_partition.txt", "\n")
    assert find_celeba_tree(tmp_path, INFO) is None


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ("000002.jpg 3", "'000002.jpg 3'"),
        ("000002.jpg -1", "'000002.jpg -1'"),
        ("000002.jpg", "'000002.jpg'"),
        ("000002.jpg 0 1", "'000002.jpg 0 1'"),
        ("../000002.jpg 0", "'../000002.jpg 0'"),
        ("a/000002.jpg 0", "'a/000002.jpg 0'"),
        ("..\\x.jpg 0", r"'..\\\\x.jpg 0'"),
        ("image_id,partition", "'image_id,partition'"),
        ("x" * 500, "'" + "x" * 80 + "'"),
    ],
)
def test_malformed_line(tmp_path, line, received):
    write_images(tmp_path / "img_align_celeba", 1)
    path = tmp_path / "list_eval_partition.txt"
    write_list(path, f"000001.jpg 0\n{line}\n")
    with pytest.raises(ValueError) as error:
        find_celeba_tree(tmp_path, INFO)
    received = received.replace("\\\\\\\\", "\\\\")
    assert str(error.value) == f"{path}, line 2: expected a file name and 0, 1 or 2. Received: {received}"


def test_image_listed_twice(tmp_path):
    path = tmp_path / "list_eval_partition.txt"
    write_list(path, "a.jpg 0\nb.jpg 1\na.jpg 2\n")
    with pytest.raises(ValueError, match="partition.txt, line 3: expected every image once. Received: a.jpg again"):
        read_partition(path)


def test_list_that_is_no_text(tmp_path):
    path = tmp_path / "list_eval_partition.txt"
    path.write_bytes(b"\xff\xfe0\x000")
    with pytest.raises(ValueError, match="partition.txt: expected text. Received: 'utf-8' codec"):
        read_partition(path)


@pytest.mark.parametrize("archive", [False, True])
def test_missing_images(tmp_path, archive):
    folder = tmp_path / ("source" if archive else "img_align_celeba")
    write_images(folder)
    (folder / "000002.jpg").unlink()
    (folder / "000005.jpg").unlink()
    place = tmp_path / "img_align_celeba"
    if archive:
        place = tmp_path / "img_align_celeba.zip"
        write_zip(place, folder)
    write_list(tmp_path / "list_eval_partition.txt")
    splits = find_celeba_tree(tmp_path, INFO)
    assert len(splits["test"]()) == 1
    with pytest.raises(ValueError) as error:
        splits["train"]()
    assert str(error.value) == (
        f"{place}: expected all 3 images of train that {tmp_path / 'list_eval_partition.txt'} names. "
        "Received: 2 fewer, the first 000002.jpg"
    )


def test_damaged_image(tmp_path):
    write_images(tmp_path / "img_align_celeba")
    write_list(tmp_path / "list_eval_partition.txt")
    path = pathlib.Path(tmp_path / "img_align_celeba" / "000002.jpg")
    path.write_bytes(path.read_bytes()[:300])
    store = find_celeba_tree(tmp_path, INFO)["train"]()
    assert store.read(0).mean() == pytest.approx(40, abs=2) and store.read(2).mean() == pytest.approx(200, abs=2)
    with pytest.raises(DamagedImageError, match=f"^{path}: expected a PNG, JPEG"):
        store.read(1)
