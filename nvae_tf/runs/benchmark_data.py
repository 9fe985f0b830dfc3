"""Speed of the data pipeline alone, by source, and of tools/prepare_data.py; for `benchmark.py --data`."""

import concurrent.futures
import io
import multiprocessing
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

ALONE = "decoding alone"
_SIZE = 64
_TOOL = pathlib.Path(__file__).parents[2] / "tools" / "prepare_data.py"
_ROUNDS = 5
_WARM_UP = 10
_SECONDS = 1.0
_SMALL = 32
_NUM_SMALL = 12_000
_HELD_OUT = 10


def photo_crops(count, size):
    """Pieces of the two photographs that come with scikit-learn, uint8 [count, size, size, 3]."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    crops = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        photo = photos[index % len(photos)]
        top, left = (rng.integers(0, length - size) for length in photo.shape[:2])
        crops[index] = photo[top : top + size, left : left + size]
    return crops


def _write_sources(images, root):
    """Writes the images in every format that is measured; {name: folder}."""
    import lmdb

    from nvae_tf.data.decode import encode_png

    files = [encode_png(image) for image in images]
    folders = {name: root / name for name in ("image_folder", "zip", "lmdb", "npz", "prepared")}
    for split, count in (("train", len(files)), ("test", _HELD_OUT)):
        (folders["image_folder"] / split).mkdir(parents=True)
        for index, data in enumerate(files[:count]):
            (folders["image_folder"] / split / f"{index:06}.png").write_bytes(data)
        for name in ("zip", "npz", "lmdb"):
            folders[name].mkdir(exist_ok=True)
        with zipfile.ZipFile(folders["zip"] / f"{split}.zip", "w") as archive:
            for index, data in enumerate(files[:count]):
                archive.writestr(f"{index:06}.png", data)
        np.save(folders["npz"] / f"{split}.npy", images[:count])
        with lmdb.open(str(folders["lmdb"] / f"{split}.lmdb"), map_size=2**32) as environment:
            with environment.begin(write=True) as transaction:
                for index, image in enumerate(images[:count]):
                    transaction.put(str(index).encode(), image.tobytes())
    _prepare(folders["image_folder"], folders["prepared"], _SIZE)
    return files, folders


def _prepare(data_dir, out_dir, size):
    arguments = ["--dataset=folder", f"--data_dir={data_dir}", f"--out_dir={out_dir}", f"--image_size={size}"]
    subprocess.run([sys.executable, str(_TOOL), *arguments], check=True, capture_output=True)


def _images_per_second(dataset, batch_size):
    batches = iter(dataset)
    # What was fetched ahead before the clock started must not count.
    for _ in range(_WARM_UP):
        next(batches)
    start, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _SECONDS:
        next(batches)
        steps += 1
    return steps * batch_size / seconds


def _decoding_alone(files, batch_size):
    """Endless batches of the PNG files, in memory, decoded and nothing else, in two ways: {name: dataset}."""
    import tensorflow as tf

    count, files = len(files), tf.constant(files)

    def decode(index):
        return tf.io.decode_png(files[index % count], 3)

    def decode_batch(step):
        batch = tf.gather(files, (step * batch_size + tf.range(batch_size, dtype=tf.int64)) % count)
        return tf.stack([tf.io.decode_png(data, 3) for data in tf.unstack(batch, num=batch_size)])

    steps, parallel = tf.data.Dataset.counter(), tf.data.AUTOTUNE
    return {
        ALONE: steps.map(decode, parallel).batch(batch_size).prefetch(parallel),
        "the same by batches": steps.map(decode_batch, parallel).prefetch(parallel),
    }


def _datasets(files, folders, batch_size):
    from nvae_tf.config import DataConfig
    from nvae_tf.data.batches import train_batches
    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.image_set import ImageSet
    from nvae_tf.data.splits import open_images

    info = dataset_info("folder").with_size(_SIZE, 3)
    sets = {name: ImageSet(open_images(info, folder, "train")) for name, folder in folders.items()}
    sets["in memory"] = ImageSet(open_images(info, folders["npz"], "train")).load()
    batches = {name: train_batches(images, DataConfig(), 8, batch_size, seed=0) for name, images in sets.items()}
    return {**_decoding_alone(files, batch_size), **batches}


def pipeline_rates(num_images, batch_size):
    """Images per second of training batches of 64 x 64 photographs, for each source.

    Everything is measured in turn, several times, and the median counts.

    Args:
        num_images: how many images there are in each source.
        batch_size: images of a batch.

    Returns:
        {source: images per second}; "decoding alone" is TensorFlow's decoder on PNG files in memory, image by image as
        tf.data is commonly used, and "the same by batches" the fastest way that was found.
    """
    with tempfile.TemporaryDirectory() as root:
        files, folders = _write_sources(photo_crops(num_images, _SIZE), pathlib.Path(root))
        datasets = _datasets(files, folders, batch_size)
        rounds = [
            {name: _images_per_second(dataset, batch_size) for name, dataset in datasets.items()}
            for _ in range(_ROUNDS)
        ]
    return {name: statistics.median(rates[name] for rates in rounds) for name in datasets}


def _decode_and_encode(paths):
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").save(io.BytesIO(), "PNG")


def preparation_ratio():
    """Speed of prepare_data.py on 12,000 PNG files of 32 x 32, as a fraction of decoding and encoding them by Pillow.

    Pillow works in as many processes as there are cores, and the start of the processes counts on both sides.
    """
    from nvae_tf.data.decode import encode_png
    from nvae_tf.data.parallel import num_cores

    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root) / "images"
        folder.mkdir()
        paths = [folder / f"{index:06}.png" for index in range(_NUM_SMALL)]
        for path, image in zip(paths, photo_crops(_NUM_SMALL, _SMALL), strict=True):
            path.write_bytes(encode_png(image))
        ratios = []
        for repeat in range(3):
            start = time.perf_counter()
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(num_cores(), context) as pool:
                list(pool.map(_decode_and_encode, [paths[i::16] for i in range(16)]))
            middle = time.perf_counter()
            _prepare(folder, pathlib.Path(root) / f"prepared{repeat}", _SMALL)
            ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios)


def data_table(num_images, batch_size):
    """Prints and returns the figures of `benchmark.py --data`."""
    print(f"images per second, {num_images} photographs of {_SIZE}x{_SIZE}, batches of {batch_size}:")
    rates = pipeline_rates(num_images, batch_size)
    alone = rates[ALONE]
    for name, rate in rates.items():
        print(f"  {name:<20}{rate:>12,.0f}{rate / alone:>10.2f} of decoding alone", flush=True)
    ratio = preparation_ratio()
    print(f"prepare_data.py: {ratio:.2f} of the speed of Pillow's decoding and encoding")
    return {"images_per_second": rates, "preparation_ratio": ratio}
