"""Images to compress: an array in a file, a folder of pictures, or a data set, as a run's model takes them."""

import dataclasses
import pathlib

import numpy as np

from nvae_tf.compression.levels import check_images, image_shape, num_levels


def read_images(path, config):
    """Reads the images of a .npy file, or of the pictures of a folder and its subfolders in the order of their names.

    Args:
        path: .npy file of uint8 [N, h, w] or [N, h, w, C], or folder of PNG, JPEG, WebP or BMP files.
        config: `ModelConfig`, whose images have the size [h, w, C].

    Returns:
        uint8 array of that shape.

    Raises:
        ValueError, OSError: there are no such images, or they are of another size.
    """
    path = pathlib.Path(path)
    pixels = _read_folder(path, config) if path.is_dir() else _read_npy(path)
    check_images(pixels, config, path)
    return pixels


def _read_npy(path):
    try:
        return np.lib.format.open_memmap(path, mode="r")  # unlike np.load, takes no other format
    except ValueError as error:
        raise ValueError(f"{path}: expected a .npy file of uint8 images. Received: {error}") from error


def _read_folder(path, config):
    from nvae_tf.data.decode import DamagedImageError
    from nvae_tf.data.sources.image_folder import file_split, list_images

    names, _ = list_images(path)
    if not names:
        raise ValueError(f"{path}: expected PNG, JPEG, WebP or BMP files. Received: none")
    shape, found = image_shape(config), []
    if shape[2] not in (1, 3):
        raise ValueError(f"{path}: expected a .npy file for images of {shape[2]} channels. Received: a folder")
    for name, image in file_split(path, names, shape[2]).read(range(len(names))):
        if isinstance(image, DamagedImageError):
            raise image
        if image.shape != shape:
            raise ValueError(f"{name}: expected an image of {list(shape)}. Received: {list(image.shape)}")
        found.append(image)
    return np.stack(found)


def quantized(pixels, config, seed):
    """Levels of images as evaluation sees them, uint8 [N, h, w, C]; other arguments as for `evaluation_levels`.

    `pixels` are uint8 [N, h, w, C] or [N, h, w].
    """
    from nvae_tf.data.image_set import from_array

    around = (config.model.padding,) * 2
    images = np.asarray(pixels).reshape(-1, *image_shape(config.model))
    return evaluation_levels(from_array(np.pad(images, [(0, 0), around, around, (0, 0)])), config, seed)


def evaluation_levels(images, config, seed):
    """Levels of an `ImageSet` as evaluation sees them, uint8 [N, h, w, C]; damaged images are left out.

    Args:
        images: `ImageSet`, padding included.
        config: `Config` of the run; the images are reduced to its model's bit depth or, with the Bernoulli likelihood,
            drawn black and white.
        seed: seed of this drawing, in which an image depends on its number only.
    """
    from nvae_tf.data.batches import eval_batches

    model = config.model
    window = slice(model.padding, -model.padding or None)
    data = dataclasses.replace(config.data, binarize=model.likelihood == "bernoulli")
    batches = eval_batches(images, data, model.bit_depth, 256, seed)
    levels = [np.rint(batch.numpy()[:, window, window] * (num_levels(model) - 1)).astype(np.uint8) for batch in batches]
    return np.concatenate(levels)
