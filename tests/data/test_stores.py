"""Stores of images in memory, parts of stores and stores of one size."""

import pickle

import numpy as np
import pytest

from nvae_tf.data.decode import DamagedImageError, Fit
from nvae_tf.data.stores import ArrayStore, FittedStore, SubsetStore, is_encoded, whole_array

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
STORE = ArrayStore(IMAGES, 3, "here")


class EncodedStore:
    """Two PNG files, of which the second is damaged."""

    source, is_encoded, image_shape = "files", True, (4, 6, 3)

    def __len__(self):
        return 2

    def name(self, index):
        return f"file {index}"

    def read(self, index):
        if index == 1:
            raise DamagedImageError("file 1: damaged")
        return IMAGES[0]

    def read_encoded(self, index):
        return b"png %d" % index


def test_array():
    assert len(STORE) == 5 and STORE.source == "here" and STORE.name(3) == "here, image 3"
    np.testing.assert_array_equal(STORE.read(3), IMAGES[3])
    assert whole_array(STORE) is IMAGES and not is_encoded(STORE)


@pytest.mark.parametrize("array", [IMAGES[..., 0], IMAGES[..., :1]])
def test_array_of_other_channels(array):
    store = ArrayStore(array, 3, "here")
    np.testing.assert_array_equal(store.read(2), np.repeat(IMAGES[2, ..., :1], 3, axis=2))
    assert whole_array(store) is None


def test_array_of_something_else():
    with pytest.raises(DamagedImageError, match=r"^here, image 1: expected uint8 .* Received: float64 \[4, 6, 3\]"):
        ArrayStore(IMAGES / 255, 3, "here").read(1)


def test_subset():
    store = SubsetStore(STORE, [4, 0, 4])
    assert len(store) == 3 and store.source == "here"
    assert [store.name(index) for index in range(3)] == [f"here, image {index}" for index in (4, 0, 4)]
    for index, other in enumerate((4, 0, 4)):
        np.testing.assert_array_equal(store.read(index), IMAGES[other])
    np.testing.assert_array_equal(whole_array(store), IMAGES[[4, 0, 4]])
    assert not is_encoded(store)


def test_subset_of_a_subset():
    store = SubsetStore(SubsetStore(STORE, [4, 2, 0]), np.array([2, 1]))
    assert [store.name(index) for index in range(2)] == ["here, image 0", "here, image 2"]
    np.testing.assert_array_equal(whole_array(store), IMAGES[[0, 2]])


def test_subset_of_what_is_not_in_memory():
    store = SubsetStore(EncodedStore(), [1, 0])
    assert whole_array(store) is None
    assert is_encoded(store) and store.image_shape == (4, 6, 3) and store.read_encoded(0) == b"png 1"
    np.testing.assert_array_equal(store.read(1), IMAGES[0])
    with pytest.raises(DamagedImageError, match="file 1: damaged"):
        store.read(0)


def test_fitted():
    store = FittedStore(STORE, Fit(2, 3, resize=True, enlarge=True))
    assert len(store) == 5 and store.source == "here" and store.name(1) == "here, image 1"
    np.testing.assert_array_equal(store.read(1), Fit(2, 3, resize=True, enlarge=True)(IMAGES[1], "x"))
    assert whole_array(store) is None
    np.testing.assert_array_equal(whole_array(FittedStore(STORE, Fit(4, 6))), IMAGES)
    assert whole_array(FittedStore(EncodedStore(), Fit(4, 6))) is None


def test_fitted_names_the_image_of_another_size():
    store = FittedStore(SubsetStore(STORE, [3]), Fit(8, 8))
    with pytest.raises(ValueError, match="^here, image 3: expected an image of 8x8 .* Received: 4x6"):
        store.read(0)


@pytest.mark.parametrize(
    "store", [STORE, SubsetStore(STORE, [3, 1]), FittedStore(STORE, Fit(2, 2, resize=True, enlarge=True))]
)
def test_pickled(store):
    copy = pickle.loads(pickle.dumps(store))
    assert len(copy) == len(store) and copy.name(1) == store.name(1)
    np.testing.assert_array_equal(copy.read(1), store.read(1))
