"""Speed of the data pipeline on its own; for `benchmark.py --data`."""

import pathlib
import statistics
import tempfile
import time

import numpy as np

_SIZE, _NUM_IMAGES = 64, 4000
_ROUNDS, _WARM_UP, _SECONDS = 5, 10, 1.0


def _photo_crops(count):
    """Crops of the two photographs that come with scikit-learn, uint8 [count, 64, 64, 3]."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    crops = np.empty((count, _SIZE, _SIZE, 3), np.uint8)
    for index in range(count):
        photo = photos[index % len(photos)]
        top, left = (rng.integers(0, length - _SIZE) for length in photo.shape[:2])
        crops[index] = photo[top : top + _SIZE, left : left + _SIZE]
    return crops


def _decoding(files, batch_size):
    """Endless batches of in-memory PNG files, which are only decoded."""
    import tensorflow as tf

    count, files = len(files), tf.constant(files)

    def decode_batch(step):
        batch = tf.gather(files, (step * batch_size + tf.range(batch_size, dtype=tf.int64)) % count)
        return tf.stack([tf.io.decode_png(data, 3) for data in tf.unstack(batch, num=batch_size)])

    return tf.data.Dataset.counter().map(decode_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _datasets(crops, root, batch_size):
    from nvae_tf.config import DataConfig
    from nvae_tf.data.batches import train_batches
    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.decode import encode_png
    from nvae_tf.data.image_set import from_array, from_records
    from nvae_tf.data.prepare import Preparation
    from nvae_tf.data.splits import open_images

    np.save(root / "train.npy", crops)
    np.save(root / "test.npy", crops[:1])
    info, prepared = dataset_info("folder").with_size(_SIZE, 3), root / "prepared"
    Preparation(info, root, log=lambda line: None).run(prepared)
    sets = {"prepared records": from_records(open_images(info, prepared, "train")), "in memory": from_array(crops)}
    batches = {name: train_batches(images, DataConfig(), 8, batch_size, seed=0) for name, images in sets.items()}
    return {"decoding": _decoding([encode_png(crop) for crop in crops], batch_size), **batches}


def _images_per_second(dataset, batch_size):
    batches = iter(dataset)
    for _ in range(_WARM_UP):  # batches that were prefetched before the clock started must not count
        next(batches)
    start, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _SECONDS:
        next(batches)
        steps += 1
    return steps * batch_size / seconds


def data_table(batch_size):
    """Prints the images per second of training batches of 64 x 64 photographs, as the median of several rounds.

    Returns:
        {"images_per_second": {name: rate}}. "decoding" is TensorFlow's decoder on batches of PNG files in memory.
    """
    print(f"images per second, {_NUM_IMAGES} photographs of {_SIZE}x{_SIZE}, batches of {batch_size}:")
    with tempfile.TemporaryDirectory() as root:
        datasets = _datasets(_photo_crops(_NUM_IMAGES), pathlib.Path(root), batch_size)
        rounds = [
            {name: _images_per_second(dataset, batch_size) for name, dataset in datasets.items()}
            for _ in range(_ROUNDS)
        ]
    rates = {name: statistics.median(rates[name] for rates in rounds) for name in datasets}
    for name, rate in rates.items():
        print(f"  {name:<22}{rate:>12,.0f}{rate / rates['decoding']:>10.2f} of decoding", flush=True)
    return {"images_per_second": rates}
