"""Cropping and resizing to the size of a data set."""

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import Fit

PIXELS = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)


def resized(image, size):
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize("resize", [False, True])
def test_an_image_of_the_size_is_not_touched(resize):
    pixels = PIXELS[:64, :64]
    assert Fit(64, 64, (40, 15, 188, 163), (218, 178), resize)(pixels, "x") is pixels


def test_celeba_is_cropped_and_resized_as_by_pillow():
    expected = resized(Image.fromarray(PIXELS).crop((15, 40, 163, 188)), (64, 64))
    for resize in (False, True):
        fit = dataset_info("celeba64").fit(resize)
        np.testing.assert_array_equal(fit(PIXELS, "x"), expected)
        np.testing.assert_array_equal(fit(PIXELS[..., :1], "x")[..., 0], expected[..., 0])


def test_another_size_is_not_cropped():
    fit = dataset_info("celeba64").fit(resize=True)
    pixels = PIXELS[:200, :100]
    np.testing.assert_array_equal(fit(pixels, "x"), resized(Image.fromarray(pixels[50:150]), (64, 64)))


@pytest.mark.parametrize(
    ("size", "part"),
    [
        ((100, 178), np.s_[:, 39:139]),
        ((178, 100), np.s_[39:139]),
        ((101, 100), np.s_[:100]),
        ((10, 10), np.s_[:]),
        ((128, 128), np.s_[:]),
    ],
)
def test_the_middle_of_the_aspect_ratio_is_resized(size, part):
    pixels = np.resize(PIXELS, (*size, 3))
    expected = resized(Image.fromarray(np.ascontiguousarray(pixels[part])), (32, 32))
    np.testing.assert_array_equal(Fit(32, 32, resize=True, enlarge=True)(pixels, "x"), expected)


def test_height_is_not_width():
    top = np.zeros((40, 30, 3), np.uint8)
    top[:20] = 255
    pixels = Fit(8, 6, resize=True, enlarge=True)(top, "x")
    assert pixels.shape == (8, 6, 3) and (pixels[:3] == 255).all() and (pixels[5:] == 0).all()


@pytest.mark.parametrize(
    ("fit", "sizes"),
    [(Fit(28, 28), "28x28"), (Fit(64, 64, (40, 15, 188, 163), (218, 178)), "64x64 or 218x178")],
)
def test_wrong_size(fit, sizes):
    with pytest.raises(ValueError) as error:
        fit(PIXELS[:30, :40], "a.png")
    assert str(error.value) == (
        f"a.png: expected an image of {sizes} (height x width), or resize=True. Received: 30x40"
    )
