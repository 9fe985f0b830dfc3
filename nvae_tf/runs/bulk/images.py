"""The images that a job encodes or scores, opened and not read: each worker reads its own."""

import glob
import os
import pathlib

import numpy as np

from nvae_tf.data.sources.image_folder import file_split
from nvae_tf.data.sources.names import is_image
from nvae_tf.data.splits import SplitImages
from nvae_tf.runs.data import check_data, open_split


def open_run_images(config, data_dir, split, max_images, record):
    """`SplitImages` of a split, compared with those that the run was trained on.

    Args:
        config: `Config` of the run.
        data_dir, split, max_images: see `nvae_tf.runs.data.load_images`, whose errors are raised.
        record: `DataRecord` of the run.
    """
    images = open_split(config, data_dir and pathlib.Path(data_dir).absolute(), split, notes=True)
    record.check_count(split, len(images))
    record.check(split, images)
    return images.subset(slice(max_images or None))


def open_files(config, pattern, max_images):
    """`SplitImages` of the image files that match a pattern, such as "photos/**/*.jpg", sorted by path.

    Raises ValueError if there are none.
    """
    found = glob.glob(os.path.abspath(pattern), recursive=True)
    paths = sorted(path for path in found if is_image(path) and os.path.isfile(path))[: max_images or None]
    if not paths:
        raise ValueError(f"--files: expected a pattern of image files. Received: {pattern}, which matches none")
    folder, info = os.path.commonpath([os.path.dirname(path) for path in paths]), check_data(config)
    split = file_split(pathlib.Path(folder), [os.path.relpath(path, folder) for path in paths], info.channels)
    return SplitImages(split, np.arange(len(paths)), info.fit(config.data.resize), info.channels)
