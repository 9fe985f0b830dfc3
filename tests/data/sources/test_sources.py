"""Tests of all formats: files of other programs are found and read in parts, and damage is reported."""

import pickle

import numpy as np
import pytest

from nvae_tf.data.datasets import DATASETS, dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources import SOURCES
from tests.data.sources.formats import FORMATS, read

ITEMS = [name for name, form in FORMATS.items() if form.has_items]


@pytest.fixture(params=FORMATS)
def form(request):
    if request.param == "tfds":
        pytest.importorskip("tensorflow_datasets")
    return FORMATS[request.param]


def test_reads_what_another_program_wrote(form, tmp_path):
    images = form.images()
    form.write(tmp_path, images)
    found = form.find(tmp_path)
    assert set(found) == set(form.splits)
    for split, expected in images.items():
        assert found[split].num_images == len(expected) and str(tmp_path) in found[split].source
        assert found[split].paths and all(path.exists() for path in found[split].paths)
        np.testing.assert_array_equal(read(found[split]), expected)


def test_other_processes_read_parts(form, tmp_path):
    images = form.images()["train"]
    form.write(tmp_path, form.images())
    split = form.find(tmp_path)["train"]
    whole = list(split.read(np.arange(7)))
    copy = pickle.dumps(split)
    assert len(copy) < 3000  # the pickle does not contain the images
    part = list(pickle.loads(copy).read(np.array([1, 2, 5])))
    assert [name for name, _ in part] == [whole[index][0] for index in (1, 2, 5)]
    np.testing.assert_array_equal([image for _, image in part], images[[1, 2, 5]])
    assert len({name for name, _ in whole}) == 7


def errors(form, root):
    """Messages about everything that is damaged, wholly or in part."""
    try:
        return [
            str(image)
            for split in form.find(root).values()
            for _, image in split.read(np.arange(split.num_images))
            if isinstance(image, DamagedImageError)
        ]
    except ValueError as error:
        return [str(error)]


def test_truncated_file_is_named(form, tmp_path):
    form.write(tmp_path, form.images())
    path = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[: 2 * path.stat().st_size // 3])
    [message] = errors(form, tmp_path)
    assert message.startswith(f"{tmp_path}/") and ": expected " in message and "Received: " in message
    place = path.parent if path.name == "data.mdb" or form.source == "tfds" else path
    assert str(place) in message


@pytest.mark.parametrize("name", ITEMS)
def test_damaged_image_is_named_and_the_others_are_read(name, tmp_path):
    form = FORMATS[name]
    images = form.images()
    form.write(tmp_path, {**images, "train": [*images["train"][:2], b"no image", *images["train"][3:]]})
    found = list(form.find(tmp_path)["train"].read(np.arange(7)))
    (name, error) = found.pop(2)
    assert isinstance(error, DamagedImageError) and str(error).startswith(f"{name}: expected ")
    np.testing.assert_array_equal([image for _, image in found], np.delete(images["train"], 2, axis=0))


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"digits"}))
def test_folder_without_images(source, tmp_path):
    info = next(
        (info for info in map(dataset_info, DATASETS) if source in info.sources), dataset_info("folder")
    ).with_size(32, 3)
    assert SOURCES[source].find(tmp_path, info) is None
    for name in ("train_data_batch_1.txt", ".hidden.png", "train-labels-idx1-ubyte", "notes.txt"):
        (tmp_path / name).touch()
    for name in ("train", "test.lmdb", "kitchen_train_lmdb", "img_align_celeba", "mnist", "tiny"):
        (tmp_path / name).mkdir()
    assert SOURCES[source].find(tmp_path, info) is None


@pytest.mark.parametrize("dataset, shape", [("mnist", (60_000, 28, 28, 1)), ("stacked_mnist", (60_000, 28, 28, 3))])
def test_real_mnist(shared_data, dataset, shape):
    splits = SOURCES["idx"].find(shared_data, dataset_info(dataset))
    images = read(splits["train"]())
    assert images.shape == shape and splits["test"]().num_images == 10_000
    # The usual mean and standard deviation for normalising MNIST.
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_real_cifar(shared_data):
    splits = SOURCES["cifar"].find(shared_data, dataset_info("cifar10"))
    images = {split: read(make()) for split, make in splits.items()}
    path = shared_data / "cifar-10-batches-bin" / "data_batch_1.bin"
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    assert images["train"].shape == (len(records), 32, 32, 3) and images["test"].shape[1:] == (32, 32, 3)
    # The shared data is a part of CIFAR-10; these are the means of the whole.
    np.testing.assert_allclose(images["train"].mean(axis=(0, 1, 2)), [125.31, 122.95, 113.87], atol=1.0)
    np.testing.assert_array_equal(images["train"][7], records[7, 1:].reshape(3, 32, 32).transpose(1, 2, 0))
