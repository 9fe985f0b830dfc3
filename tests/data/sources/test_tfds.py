"""Data sets of TensorFlow Datasets, written as its documentation says an outside program may; no network."""

import dataclasses
import io
import pickle
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.tfds import find_tfds, prepare_tfds

tfds = pytest.importorskip("tensorflow_datasets")

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
INFO = dataclasses.replace(dataset_info("tfds:tiny"), image_size=8, channels=3)


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, splits, keys=("image",)):
    """Splits {name: [bytes]} in `folder`, .../NAME/VERSION, each in two shards."""
    folder.mkdir(parents=True)
    name = next(part for part in folder.parts if part in ("tiny", "omniglot"))
    infos = []
    for split, values in splits.items():
        shards = values[:2], values[2:]
        for shard, part in enumerate(shards):
            with tf.io.TFRecordWriter(str(folder / f"{name}-{split}.tfrecord-{shard:05}-of-00002")) as writer:
                for value in part:
                    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key in keys}
                    feature["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
                    writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        lengths = [len(part) for part in shards]
        template = tfds.core.ShardedFileTemplate(folder, dataset_name=name, split=split, filetype_suffix="tfrecord")
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template))
    features = {key: tfds.features.Image(shape=(None, None, 3)) for key in keys}
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features={**features, "label": tfds.features.ClassLabel(num_classes=3)},
        split_infos=infos,
        check_data=False,
    )


def read_all(store):
    return np.stack([store.read(index) for index in range(len(store))])


ALL = {"train": [encoded(image) for image in IMAGES], "test": [encoded(image) for image in IMAGES[3:]]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    write(root / "tiny" / "1.0.0", {**ALL, "small1": ALL["test"]})
    return root


def test_splits(tiny):
    splits = find_tfds(tiny, INFO)
    assert list(splits) == ["train", "test"]
    train = splits["train"]()
    assert len(train) == 5
    np.testing.assert_array_equal(read_all(train), IMAGES)
    np.testing.assert_array_equal(read_all(splits["test"]()), IMAGES[3:])
    assert train.name(2) == f"{tiny}/tiny/1.0.0, split train, image 2"
    copy = pickle.dumps(train)
    assert len(copy) < 1000  # the images do not travel
    np.testing.assert_array_equal(pickle.loads(copy).read(4), IMAGES[4])


def test_damaged_image_leaves_the_others(tmp_path):
    write(tmp_path / "tiny" / "1.0.0", {"train": [ALL["train"][0], b"no image", *ALL["train"][2:]]})
    store = find_tfds(tmp_path, INFO)["train"]()
    np.testing.assert_array_equal(store.read(0), IMAGES[0])
    np.testing.assert_array_equal(store.read(4), IMAGES[4])
    with pytest.raises(DamagedImageError, match="1.0.0, split train, image 1: expected a PNG.* Received: 8 bytes"):
        store.read(1)


def test_damaged_records(tmp_path):
    write(tmp_path / "tiny" / "1.0.0", ALL)
    path = next(tmp_path.glob("tiny/1.0.0/*train*-00001-*"))
    path.write_bytes(path.read_bytes()[:-10])
    store = find_tfds(tmp_path, INFO)["train"]()
    with pytest.raises(ValueError, match="1.0.0, split train: expected 5 images. Received: DataLossError"):
        store.read(0)


def test_versions_and_configurations(tmp_path):
    write(tmp_path / "tiny" / "8x6" / "9.0.0", ALL)
    assert len(find_tfds(tmp_path, INFO)["train"]()) == 5  # the only configuration
    write(tmp_path / "tiny" / "8x6" / "10.0.0", {"train": ALL["test"]})
    write(tmp_path / "tiny" / "4x3" / "1.0.0", {"train": ALL["train"][:3]})

    def count(name):
        return len(find_tfds(tmp_path, dataclasses.replace(INFO, tfds_name=name))["train"]())

    assert count("tiny/8x6") == 2  # the newest
    assert count("tiny/8x6:9.0.0") == 5
    assert count("tiny/4x3") == 3
    with pytest.raises(ValueError, match="expected one configuration of tiny, .*Received: tiny/4x3, tiny/8x6"):
        count("tiny")
    assert find_tfds(tmp_path, dataclasses.replace(INFO, tfds_name="tiny/8x6:1.0.0")) is None


def test_ink_of_omniglot_is_white(tmp_path):
    write(tmp_path / "omniglot" / "3.0.0", ALL)
    info = dataclasses.replace(dataset_info("omniglot"), channels=3)
    np.testing.assert_array_equal(read_all(find_tfds(tmp_path, info)["train"]()), 255 - IMAGES)


def test_which_image(tmp_path):
    write(tmp_path / "a" / "tiny" / "1.0.0", ALL, keys=("picture",))
    np.testing.assert_array_equal(find_tfds(tmp_path / "a", INFO)["train"]().read(0), IMAGES[0])
    write(tmp_path / "b" / "tiny" / "1.0.0", ALL, keys=("left", "right"))
    with pytest.raises(ValueError, match=r"expected one image feature, or one named 'image'.*\['left', 'right'\]"):
        find_tfds(tmp_path / "b", INFO)["train"]()
    write(tmp_path / "c" / "tiny" / "1.0.0", ALL, keys=("image", "mask"))
    np.testing.assert_array_equal(find_tfds(tmp_path / "c", INFO)["train"]().read(0), IMAGES[0])


def test_nothing_there(tmp_path, tiny):
    (tmp_path / "tiny" / "raw").mkdir(parents=True)  # a folder of that name which is none of TensorFlow Datasets
    assert find_tfds(tmp_path, INFO) is None
    assert find_tfds(tmp_path / "tiny", INFO) is None
    assert find_tfds(tiny, dataclasses.replace(INFO, tfds_name=None)) is None


def test_damaged_description(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match="1.0.0: expected a data set of TensorFlow Datasets. Received: "):
        find_tfds(tmp_path, INFO)


def test_package_is_missing(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"1.0.0: expected tensorflow-datasets, pip install -e '.\[tfds\]'. Received"):
        find_tfds(tiny, INFO)
    with pytest.raises(ValueError, match=r"tiny: expected tensorflow-datasets, pip install"):
        prepare_tfds("tiny", tiny)


def test_prepare(tmp_path):
    pytest.importorskip("importlib_resources")  # the package needs it here, and does not ask for it

    class PreparedHere(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"image": tfds.features.Image()}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index, image in enumerate(IMAGES):
                yield index, {"image": image}

    prepare_tfds("prepared_here", tmp_path)
    info = dataclasses.replace(INFO, tfds_name="prepared_here")
    images = read_all(find_tfds(tmp_path, info)["train"]())
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in IMAGES)
