import numpy as np
import PIL.Image
import pytest

from nvae_tf.evaluation.write_images import grid, save_animation, save_grid, write_png


def _numbered(count):
    """Images [count, 2, 3, 1], image i all of value (i + 1) / 255."""
    return np.broadcast_to((np.arange(count)[:, None, None, None] + 1) / 255.0, (count, 2, 3, 1))


def test_grid_goes_row_by_row_and_fills_with_black():
    result = grid(_numbered(5), gap=0)
    assert result.shape == (4, 9, 1) and result.dtype == np.uint8
    np.testing.assert_array_equal(result[::2, ::3, 0], [[1, 2, 3], [4, 5, 0]])


def test_grid_keeps_each_image_whole():
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 3))
    result = grid(images / 255.0, columns=2, gap=0)
    assert result.shape == (6, 6, 3)
    np.testing.assert_array_equal(result[2:4, 3:6], images[3])


def test_grid_has_grey_lines_between_images_only():
    result = grid(_numbered(4), gap=1)[..., 0]
    assert result.shape == (5, 7)
    assert np.all(result[2] == 128) and np.all(result[:, 3] == 128)
    np.testing.assert_array_equal(result[[0, 0, -1, -1], [0, -1, 0, -1]], [1, 2, 3, 4])


def test_grid_refuses_a_negative_gap():
    with pytest.raises(ValueError, match="gap: expected at least 0. Received: -1"):
        grid(_numbered(2), gap=-1)


def test_grid_clips():
    np.testing.assert_array_equal(grid(np.array([-1.0, 2.0]).reshape(2, 1, 1, 1), gap=0)[..., 0], [[0, 255]])


@pytest.mark.parametrize("images, columns", [(np.zeros((0, 2, 2, 1)), None), (np.zeros((2, 2, 1)), None)])
def test_grid_refuses_other_shapes(images, columns):
    with pytest.raises(ValueError, match="images: expected shape"):
        grid(images, columns)


def test_grid_refuses_no_columns():
    with pytest.raises(ValueError, match="columns: expected at least 1. Received: 0"):
        grid(_numbered(2), columns=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_the_values(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 3, channels))
    save_grid(tmp_path / "grid.png", images / 255.0)
    with PIL.Image.open(tmp_path / "grid.png") as file:
        pixels = np.asarray(file).reshape(6, 8, channels)
    np.testing.assert_array_equal(pixels, grid(images / 255.0))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("image", [np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 1)), np.zeros((2, 2), np.uint8)])
def test_png_refuses_other_images(tmp_path, image):
    with pytest.raises(ValueError, match="image: expected uint8"):
        write_png(tmp_path / "image.png", image)


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
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_kind_of_animation_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name ending in .gif or .webp. Received: .*a.png"):
        save_animation(tmp_path / "a.png", [np.zeros((2, 2, 1), np.uint8)])
