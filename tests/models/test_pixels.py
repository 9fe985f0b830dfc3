import numpy as np
import pytest

from nvae_tf.models.pixels import crop_padding


@pytest.mark.parametrize("padding", [0, 2])
def test_crop_padding(padding):
    images = np.arange(36.0).reshape(1, 6, 6, 1)
    expected = images if padding == 0 else images[:, 2:4, 2:4]
    np.testing.assert_array_equal(crop_padding(images, padding), expected)
