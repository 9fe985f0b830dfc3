"""Image files in folders and zip files: the choice of files, links, and unusual or damaged archives."""

import errno
import os
import socket
import zipfile

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources import image_folder
from nvae_tf.data.sources.image_folder import find_image_folder
from nvae_tf.data.sources.zip_file import find_zip
from tests.data.sources.formats import names
from tests.data.sources.writers import encoded, put, write_zip

INFO = dataset_info("folder").with_size(32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), np.uint8)
PNG = encoded(IMAGES[0])
MIXED = [
    "b.png",
    "c.JFIF",
    "a/z.JPG",
    "a/b/c.jpeg",
    "B.Webp",
    "a.bmp",
    "labels.txt",
    ".x.png",
    "._x.png",
    ".a/y.png",
    "__MACOSX/z.png",
    "__MACOSX/y.png",
]
VISIBLE = ["B.Webp", "a.bmp", "a/b/c.jpeg", "a/z.JPG", "b.png", "c.JFIF"]


def found(root):
    """{split: paths relative to the folder} of the images that the source finds."""
    splits = find_image_folder(root, INFO)
    return {split: [os.path.relpath(name, root) for name in names(make())] for split, make in splits.items()}


def test_visible_images_in_the_order_of_their_paths(tmp_path):
    for name in MIXED:
        put(tmp_path / "folder" / name, PNG)
    (tmp_path / "folder" / "folder.png").mkdir()
    assert found(tmp_path / "folder") == {"all": VISIBLE}
    write_zip(tmp_path / "faces.ZIP", {**dict.fromkeys(MIXED, PNG), "a/": b"", "folder.png/": b""})
    [(split, make)] = find_zip(tmp_path, INFO).items()
    assert split == "all" and names(make()) == [f"{tmp_path}/faces.ZIP, entry {name}" for name in VISIBLE]
    hidden = "hidden (4: ._x.png, .a, .x.png and 1 more)"
    for split in (make(), find_image_folder(tmp_path / "folder", INFO)["all"]()):
        _, line = split.selection.replace("faces.ZIP/", "").splitlines()
        assert line.replace(" empty folders (1: folder.png/),", "") == f"left out: .txt (1: labels.txt), {hidden}"


def test_links_and_loops(tmp_path):
    root = tmp_path / "root"
    for name in ("elsewhere/1.png", "root/real/2.png"):
        put(tmp_path / name, PNG)
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "real" / "up").symlink_to(root)
    (root / "same").symlink_to(root / "real")
    assert found(root) == {"all": ["file.png", "linked/1.png", "real/2.png"]}


def test_files_that_cannot_be_opened_are_damaged_images(tmp_path, monkeypatch):
    for name in ("a.png", "forbidden.png", "locked/1.png"):
        put(tmp_path / name, PNG)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.png").symlink_to("itself.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket has at most 108 bytes
        server.bind("socket.png")
    for module, function in ((image_folder, open), (os, os.scandir)):  # permissions do not bind root

        def forbid(path, *arguments, function=function):
            if os.fspath(path).endswith(("forbidden.png", "locked")):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return function(path, *arguments)

        monkeypatch.setattr(module, function.__name__, forbid, raising=False)
    split = find_image_folder(tmp_path, INFO)["all"]()
    (_, first), *others = split.read(np.arange(split.num_images))
    np.testing.assert_array_equal(first, IMAGES[0])
    expected = ["forbidden.png", "gone.png", "itself.png", "locked/", "pipe.png", "socket.png"]
    assert [os.path.relpath(name, tmp_path) + "/" * name.endswith("/") for name, _ in others] == expected
    for name, error in others:
        assert isinstance(error, DamagedImageError)
        assert str(error).startswith(f"{name}: expected a file that can be read. Received: ")
        assert str(error).endswith(": a folder that cannot be read") == name.endswith("/")


def test_archive_named_after_a_split(tmp_path):
    write_zip(tmp_path / "test.zip", {"train/1.png": PNG})
    assert list(find_zip(tmp_path, INFO)) == ["test"]
    write_zip(tmp_path / "a.zip", {"1.png": PNG})
    with pytest.raises(ValueError, match=r"expected one .zip file .* for each split. Received: a.zip, test.zip"):
        find_zip(tmp_path, INFO)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", ["header", "data"])
def test_damaged_entry_leaves_the_others(tmp_path, method, place):
    path = tmp_path / "a.zip"
    write_zip(path, {f"{number}.png": encoded(image) for number, image in enumerate(IMAGES)}, method)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("1.png").header_offset + {"header": 26, "data": 100}[place]
    data = bytearray(path.read_bytes())
    data[start : start + 2] = bytes(value ^ 255 for value in data[start : start + 2])
    path.write_bytes(data)
    (_, first), (name, error), (_, last) = find_zip(tmp_path, INFO)["all"]().read(np.arange(3))
    np.testing.assert_array_equal([first, last], IMAGES[[0, 2]])
    assert isinstance(error, DamagedImageError) and str(error).startswith(
        f"{path}, entry 1.png: expected a sound entry"
    )
