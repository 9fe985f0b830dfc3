"""Zip files of images, sound, damaged and hostile."""

import concurrent.futures
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.zip_file import find_zip

INFO = dataset_info("folder").with_size(32, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)


def image_bytes(value=7, pixels=None):
    buffer = io.BytesIO()
    (Image.new("RGB", (3, 2), (value, 0, 0)) if pixels is None else Image.fromarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path, entries, method=zipfile.ZIP_STORED):
    if not isinstance(entries, dict):
        entries = {name: image_bytes(value) for value, name in enumerate(entries)}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def names(store):
    return [store.name(index).partition(", entry ")[2] for index in range(len(store))]


def found(root, info=INFO):
    splits = find_zip(root, info)
    return splits and {split: names(make()) for split, make in splits.items()}


def test_one_archive_without_splits(tmp_path):
    write_zip(tmp_path / "faces.ZIP", ["b/1.png", "a.JPG", "x.txt", "b/", ".x.png", "__MACOSX/b/._1.png", "b/0.webp"])
    assert found(tmp_path) == {"all": ["a.JPG", "b/0.webp", "b/1.png"]}


@pytest.mark.parametrize("top", ["", "top/"])
def test_split_folders_in_one_archive(tmp_path, top):
    write_zip(
        tmp_path / "data.zip", [f"{top}Train/a/1.png", f"{top}Train/b/1.png", f"{top}test/1.png", f"{top}x/2.png"]
    )
    assert found(tmp_path) == {"train": [f"{top}Train/a/1.png", f"{top}Train/b/1.png"], "test": [f"{top}test/1.png"]}
    splits = find_zip(tmp_path, INFO)
    assert [splits["train"]().read(index)[0, 0, 0] for index in (0, 1)] == [0, 1]
    assert splits["test"]().read(0)[0, 0, 0] == 2


def test_split_names_below_one_of_several_folders_are_classes(tmp_path):
    write_zip(tmp_path / "data.zip", ["a/train/1.png", "b/2.png"])
    assert found(tmp_path) == {"all": ["a/train/1.png", "b/2.png"]}


def test_one_archive_for_each_split(tmp_path):
    write_zip(tmp_path / "train_32x32.zip", ["train_32x32/1.png", "train_32x32/2.png"])
    write_zip(tmp_path / "valid_32x32.zip", ["valid_32x32/3.png"])
    write_zip(tmp_path / "train_64x64.zip", ["train_64x64/4.png"])
    write_zip(tmp_path / "annotations.zip", ["list.txt"])
    assert found(tmp_path) == {
        "train": ["train_32x32/1.png", "train_32x32/2.png"],
        "validation": ["valid_32x32/3.png"],
    }


def test_one_archive_named_after_a_split(tmp_path):
    write_zip(tmp_path / "test.zip", ["1.png"])
    write_zip(tmp_path / "labels.zip", ["1.txt"])
    assert found(tmp_path) == {"test": ["1.png"]}


def test_no_archive_of_images(tmp_path):
    assert find_zip(tmp_path, INFO) is None
    write_zip(tmp_path / "labels.zip", ["1.txt"])
    write_zip(tmp_path / ".hidden.zip", ["1.png"])
    assert find_zip(tmp_path, INFO) is None


def test_archives_that_no_split_is_named_after(tmp_path):
    write_zip(tmp_path / "a.zip", ["1.png"])
    write_zip(tmp_path / "b.zip", ["1.png"])
    with pytest.raises(ValueError, match=r"expected one .zip file .* for each split. Received: a.zip, b.zip"):
        find_zip(tmp_path, INFO)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_pixels_by_every_method(tmp_path, method):
    write_zip(tmp_path / "a.zip", {"x.png": image_bytes(pixels=PIXELS), "y.png": image_bytes()}, method)
    store = find_zip(tmp_path, INFO)["all"]()
    np.testing.assert_array_equal(store.read(0), PIXELS)
    assert store.name(0) == f"{tmp_path}/a.zip, entry x.png" and store.source == f"{tmp_path}/a.zip"


def test_archive_behind_other_bytes_and_with_a_comment(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"x.png": image_bytes(pixels=PIXELS)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"made by hand"
    path.write_bytes(b"#!program in front\n" * 9 + path.read_bytes())
    np.testing.assert_array_equal(find_zip(tmp_path, INFO)["all"]().read(0), PIXELS)


def test_streamed_and_zip64_entries(tmp_path):
    class Pipe(io.RawIOBase):  # zipfile puts the sizes behind the data where it cannot seek
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.png", "w", force_zip64=True) as file:
            file.write(image_bytes(pixels=PIXELS))
    (tmp_path / "a.zip").write_bytes(pipe.data)
    np.testing.assert_array_equal(find_zip(tmp_path, INFO)["all"]().read(0), PIXELS)


def test_the_last_entry_of_a_name_counts(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"x.png": image_bytes(1)})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.png", image_bytes(2))
    store = find_zip(tmp_path, INFO)["all"]()
    assert len(store) == 1 and store.read(0)[0, 0, 0] == 2


@pytest.mark.parametrize("name", ["/x.png", "../x.png", "a/../../x.png", "C:\\x.png", "C:/x.png", "a\\x.png"])
def test_names_that_lead_out_of_the_archive(tmp_path, caplog, name):
    write_zip(tmp_path / "a.zip", [name, "good..png"])
    with caplog.at_level("WARNING"):
        assert found(tmp_path) == {"all": ["good..png"]}
    [record] = caplog.records
    assert f"{tmp_path}/a.zip: left out 1 entries" in record.getMessage() and repr(name) in record.getMessage()


def test_nothing_is_extracted(tmp_path):
    path = write_zip(tmp_path / "a.zip", ["train/1.png", "test/1.png"], zipfile.ZIP_DEFLATED)
    for make in find_zip(tmp_path, INFO).values():
        make().read(0)
    assert list(tmp_path.iterdir()) == [path]


def damaged(root, message):
    """Checks that entry b.png alone, between a.png and c.png, cannot be read."""
    store = find_zip(root, INFO)["all"]()
    assert names(store) == ["a.png", "b.png", "c.png"]
    assert [store.read(index)[0, 0, 0] for index in (0, 2)] == [0, 2]
    with pytest.raises(DamagedImageError, match=rf"^{root}/a.zip, entry b.png: {message}"):
        store.read(1)


def central_entry(path, name):
    """Byte at which an entry of the list at the end starts."""
    data = path.read_bytes()
    return next(at for at in range(len(data)) if data[at : at + 4] == b"PK\1\2" and data[at + 46 :].startswith(name))


def set_field(path, name, offset, form, value):
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, central_entry(path, name) + offset, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (8, "<H", 1, "expected an entry without encryption. Received: an encrypted one"),
        (10, "<H", 14, "expected an entry stored, deflated or in bzip2. Received: compression method 14"),
        (16, "<I", 5, "expected SIZE bytes of CRC-32 0x00000005. Received: SIZE of 0x"),
        (20, "<I", 10, r"expected SIZE bytes of CRC-32 0x\w+. Received: \d+ of"),
        (20, "<I", 2**28 + 1, "expected at most 268435456 bytes. Received: 268435457"),
        (24, "<I", 70, r"expected 70 bytes of CRC-32 0x\w+. Received: 71 of"),
        (24, "<I", 2**31, "expected at most 268435456 bytes. Received: 2147483648"),
        (42, "<I", 3, r"expected the header of an entry at byte 3. Received: b'\\x04"),
        (42, "<I", 2**31, "expected the header of an entry at byte 2147483648. Received: b''"),
    ],
)
def test_damaged_entry(tmp_path, offset, form, value, message):
    path = write_zip(tmp_path / "a.zip", ["a.png", "b.png", "c.png"], zipfile.ZIP_DEFLATED)
    set_field(path, b"b.png", offset, form, value)
    damaged(tmp_path, message.replace("SIZE", str(len(image_bytes(1)))))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_damaged_data(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", ["a.png", "b.png", "c.png"], method)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("b.png")
    data = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len("b.png")
    data[start : start + info.compress_size] = b"\xff" * info.compress_size
    path.write_bytes(data)
    damaged(tmp_path, r"expected compressed data. Received: \d+ bytes, damaged \(")


def test_entry_that_is_no_image(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.png": image_bytes(0), "b.png": b"text", "c.png": image_bytes(2)})
    damaged(tmp_path, "expected a PNG, JPEG, WebP or BMP image. Received: 4 bytes")


@pytest.mark.parametrize("claimed", [None, 100])
def test_bomb(tmp_path, claimed):
    size = 300 * 2**20
    path = write_zip(tmp_path / "a.zip", ["a.png", "c.png"], zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("b.png", "w") as file:
        for _ in range(300):
            file.write(bytes(2**20))
    if claimed is not None:
        set_field(path, b"b.png", 24, "<I", claimed)
    store = find_zip(tmp_path, INFO)["all"]()
    tracemalloc.start()
    message = "at most 268435456 bytes" if claimed is None else r"expected 100 bytes of CRC-32 0x\w+. Received: 101 of"
    with pytest.raises(DamagedImageError, match=message):
        store.read(1)
    assert tracemalloc.get_traced_memory()[1] < size // 100
    tracemalloc.stop()


def test_damaged_list_of_entries(tmp_path):
    path = write_zip(tmp_path / "a.zip", ["a.png", "b.png"])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\1\2", b"PK\1\3"))
    with pytest.raises(ValueError, match=rf"^{path}: expected a zip file. Received: {len(data)} bytes \(Bad magic"):
        find_zip(tmp_path, INFO)


@pytest.mark.parametrize("size", [0, 1, 50, -1])
def test_archive_cut_short(tmp_path, size):
    path = write_zip(tmp_path / "a.zip", ["a.png", "b.png"])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"^{path}: expected a zip file. Received: \d+ bytes"):
        find_zip(tmp_path, INFO)


def test_sizes_of_64_bits(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(("a.png", "b.png", "c.png")):
            info = zipfile.ZipInfo(name)
            # A size of 2**32 - 1 refers to the extra field, which holds the 64 bits.
            info.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1) if name == "b.png" else b""
            archive.writestr(info, image_bytes(value))
    set_field(path, b"b.png", 24, "<I", 2**32 - 1)
    damaged(tmp_path, "expected at most 268435456 bytes. Received: ")


def test_pickled_store_and_threads(tmp_path):
    write_zip(tmp_path / "a.zip", [f"{index:03}.png" for index in range(200)], zipfile.ZIP_DEFLATED)
    store = find_zip(tmp_path, INFO)["all"]()
    store.read(0)  # opens the file
    for reader in (store, pickle.loads(pickle.dumps(store))):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert [image[0, 0, 0] for image in pool.map(reader.read, range(200))] == list(range(200))
