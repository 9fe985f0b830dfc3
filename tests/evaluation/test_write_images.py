import numpy as np
import PIL.Image
import pytest

from nvae_tf.evaluation.write_images import grid, save_animation, save_grid


def _numbered(count):
    """Images [count, 2, 3, 1]; every pixel of image i is (i + 1) / 255."""
    return np.broadcast_to((np.arange(count)[:, None, None, None] + 1) / 255.0, (count, 2, 3, 1))


def test_grid_goes_row_by_row_with_grey_lines_and_black_at_the_end():
    result = grid(_numbered(5), scale=1)
    assert result.shape == (2 * 4 - 2, 3 * 5 - 2, 1) and result.dtype == np.uint8
    np.testing.assert_array_equal(result[::4, ::5, 0], [[1, 2, 3], [4, 5, 0]])
    assert np.all(result[2:4] == 128) and np.all(result[:, 3:5] == 128)


def test_grid_keeps_images_whole_and_clips():
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 3))
    result = grid(images / 255.0, columns=2, scale=1)
    assert result.shape == (3 * 4 - 2, 2 * 5 - 2, 3)
    np.testing.assert_array_equal(result[4:6, 5:8], images[3])
    np.testing.assert_array_equal(grid(np.array([-1.0, 2.0]).reshape(2, 1, 1, 1), scale=1)[:, ::3, 0], [[0, 255]])


def test_a_grid_is_at_least_512_wide_unless_a_scale_is_given():
    assert grid(_numbered(6)).shape == (2 * (2 * 57 + 2) - 2, 3 * (3 * 57 + 2) - 2, 1)  # 508 wide with 56
    assert grid(np.zeros([4, 1, 255, 3])).shape == (4, 512, 3)
    image = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 1))
    np.testing.assert_array_equal(grid(image / 255.0, scale=4), image[0].repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_the_values(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 3, channels))
    save_grid(tmp_path / "grid.png", images / 255.0, scale=1)
    with PIL.Image.open(tmp_path / "grid.png") as file:
        pixels = np.asarray(file).reshape(6, 8, channels)
    np.testing.assert_array_equal(pixels, grid(images / 255.0, scale=1))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("channels, name", [(1, "a.gif"), (1, "a.webp"), (3, "a.webp")])
def test_an_animation_keeps_frames_and_times(tmp_path, channels, name):
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 4, channels)).astype(np.uint8)
    save_animation(tmp_path / name, list(frames), milliseconds=120)
    with PIL.Image.open(tmp_path / name) as file:
        assert file.n_frames == 3 and file.info["loop"] == 0
        for index, frame in enumerate(frames):
            file.seek(index)
            file.load()
            assert file.info["duration"] == 120
            np.testing.assert_array_equal(np.asarray(file.convert("RGB")), np.broadcast_to(frame, (5, 4, 3)))
