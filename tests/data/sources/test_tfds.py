"""Data sets of TensorFlow Datasets: versions, configurations and features, without a network."""

import dataclasses
import sys

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.tfds import find_tfds, prepare_tfds
from tests.data.sources.formats import names, read
from tests.data.sources.writers import write_tfds

tfds = pytest.importorskip("tensorflow_datasets")

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
ALL = {"train": IMAGES, "test": IMAGES[3:], "small1": IMAGES[3:]}
INFO = dataclasses.replace(dataset_info("tfds:tiny"), image_size=8, channels=3)


def test_versions_and_configurations(tmp_path):
    write_tfds(tmp_path, {"train": IMAGES[:4]}, folder="tiny/8x6/9.0.0")
    write_tfds(tmp_path, {"train": IMAGES[3:]}, folder="tiny/8x6/10.0.0")

    def opened(name):
        return find_tfds(tmp_path, dataclasses.replace(INFO, tfds_name=name))["train"]()

    assert opened("tiny/8x6").num_images == 2  # the newest
    assert opened("tiny/8x6:9.0.0").num_images == 4
    assert names(opened("tiny/8x6"))[1] == f"{tmp_path}/tiny/8x6/10.0.0, split train, image 1"
    with pytest.raises(ValueError, match=f"^{tmp_path}/tiny: expected tiny, .*you might have to specify the config"):
        opened("tiny")


def test_ink_of_omniglot_is_white(tmp_path):
    write_tfds(tmp_path, ALL, folder="omniglot/3.0.0")
    info = dataclasses.replace(dataset_info("omniglot"), channels=3)
    np.testing.assert_array_equal(read(find_tfds(tmp_path, info)["train"]()), 255 - IMAGES)


@pytest.mark.parametrize("keys", [("picture",), ("image", "mask")])
def test_the_feature_that_is_the_image(tmp_path, keys):
    write_tfds(tmp_path, ALL, keys)
    np.testing.assert_array_equal(read(find_tfds(tmp_path, INFO)["train"]()), IMAGES)


def test_several_features_that_may_be_the_image(tmp_path):
    write_tfds(tmp_path, ALL, ("left", "right"))
    with pytest.raises(ValueError, match=r"expected one image feature, or one named 'image'.*\['left', 'right'\]"):
        find_tfds(tmp_path, INFO)["train"]()


def test_damaged_description(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match="tiny: expected tiny, a data set of TensorFlow Datasets. Received: "):
        find_tfds(tmp_path, INFO)


def test_package_is_missing(tmp_path, monkeypatch):
    write_tfds(tmp_path, ALL)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"tiny: expected tensorflow-datasets, pip install -e '.\[tfds\]'. Received"):
        find_tfds(tmp_path, INFO)
    with pytest.raises(ValueError, match=r"tiny: expected tensorflow-datasets, pip install"):
        prepare_tfds("tiny", tmp_path)


def test_prepare(tmp_path):
    pytest.importorskip("importlib_resources")  # an undeclared dependency of the package

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
    images = read(find_tfds(tmp_path, info)["train"]())
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in IMAGES)
