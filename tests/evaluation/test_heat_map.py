import numpy as np

from nvae_tf.evaluation.heat_map import heat_map


def test_cells_are_in_place_and_lighter_for_larger_values():
    image = heat_map([[0.0, 1.0, 4.0], [9.0, 16.0, 25.0]], cell=2)
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    cells = image[::2, ::2]
    np.testing.assert_array_equal(image, cells.repeat(2, axis=0).repeat(2, axis=1))
    brightness = cells.sum(axis=-1, dtype=int).ravel()
    assert (np.diff(brightness) > 0).all()


def test_negative_values_and_nan_are_as_dark_as_zero():
    image = heat_map([[0.0, -3.0, np.nan, 1.0]], cell=1)
    assert (image[0, 1] == image[0, 0]).all() and (image[0, 2] == image[0, 0]).all()
    assert (heat_map([[0.0, 0.0]], cell=1)[0, 0] == image[0, 0]).all()


def test_long_histories_keep_their_ends():
    image = heat_map(np.linspace(0.0, 1.0, 1000)[np.newaxis], cell=1)
    assert image.shape == (1, 64, 3)
    np.testing.assert_array_equal(image[0, [0, -1]], heat_map([[0.0, 1.0]], cell=1)[0])
