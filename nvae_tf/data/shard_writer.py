"""Writes one shard of a prepared data set; what the processes of `nvae_tf.data.prepare` do."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from nvae_tf.data.decode import DamagedImageError, encode_png
from nvae_tf.data.manifest import Shard, write_json
from nvae_tf.data.parallel import map_in_order
from nvae_tf.data.records import encode_example, write_record

_SHARD_BYTES = 256 << 20
_MIN_SHARDS = 32
_MIN_IMAGES = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One shard: images `start` to `stop` of a split."""

    split: str
    file: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a process needs to write shards.

    Attributes:
        stores: {split: image store}, whose images all have one shape.
        data_dir: absolute path that is left out of the images' names, or None.
        folder: `pathlib.Path` of the shards.
        progress: `pathlib.Path` of the temporary files and of a JSON file for each shard that is done.
        max_damaged: images of a split that are left out because they cannot be read.
    """

    stores: dict
    data_dir: str | None
    folder: pathlib.Path
    progress: pathlib.Path
    max_damaged: int

    def name(self, split, index):
        """Name of an image, the same wherever the data set lies."""
        name = self.stores[split].name(index)
        return name.replace(f"{self.data_dir}{os.sep}", "") if self.data_dir else name


def default_images_per_shard(num_images, image_bytes):
    """So many images that a shard holds 256 MiB of pixels (100 to 200 MB as PNG of photographs).

    Fewer where that makes less than 32 shards, for the processes to share, but then at least 256.

    Args:
        num_images: of the largest split.
        image_bytes: of the pixels of an image.
    """
    return max(min(_SHARD_BYTES // image_bytes, max(-(-num_images // _MIN_SHARDS), _MIN_IMAGES)), 1)


def shard_tasks(stores, images_per_shard):
    """List of `Task`: every image of every store, in order."""
    tasks = []
    for split, store in stores.items():
        starts = range(0, len(store), images_per_shard)
        for number, start in enumerate(starts):
            file = f"{split}-{number:05}-of-{len(starts):05}.tfrecord"
            tasks.append(Task(split, file, start, min(start + images_per_shard, len(store))))
    return tasks


class _HashedFile:
    def __init__(self, file):
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data):
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)


def _example(pixels, name):
    height, width, channels = pixels.shape
    return encode_example(
        {
            "image/encoded": encode_png(pixels),
            "image/format": b"png",
            "image/height": height,
            "image/width": width,
            "image/channels": channels,
            "image/filename": name.encode("utf-8", "surrogateescape"),
        }
    )


def _write_images(file, task, work):
    """(number of images, sums of the channels, [name, message] of each damaged image)."""
    store, damaged, sums, count = work.stores[task.split], [], 0, 0
    for index in range(task.start, task.stop):
        try:
            pixels = store.read(index)
        except DamagedImageError as error:
            damaged.append([work.name(task.split, index), str(error)])
            check_damaged(task.split, damaged, work.max_damaged)
            continue
        write_record(file, _example(pixels, work.name(task.split, index)))
        sums = sums + pixels.reshape(-1, pixels.shape[2]).sum(0, np.int64)
        count += 1
    return count, np.ravel(sums).tolist(), damaged


def check_damaged(split, damaged, limit):
    """Raises `ValueError` where [name, message] of damaged images are more than the limit."""
    if len(damaged) > limit:
        raise ValueError(
            f"max_damaged: expected at most {limit} damaged images in {split}. "
            f"Received: {len(damaged)}, the last: {damaged[-1][1]}"
        )


def write_shard(task, work):
    """Writes a shard, to a temporary name first, and then the JSON file that says that it is done.

    Args:
        task: `Task`.
        work: `Work`.

    Returns:
        The content of the JSON file: {"shard": fields of `nvae_tf.data.manifest.Shard`, "sums": of the channels,
        "damaged": [name, message] of each image that is left out}.

    Raises:
        ValueError: more damaged images than allowed, or an image of another size.
        OSError: a file cannot be read or written.
    """
    temporary = work.progress / f"{task.file}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb", buffering=1 << 20) as file:
            hashed = _HashedFile(file)
            count, sums, damaged = _write_images(hashed, task, work)
        os.replace(temporary, work.folder / task.file)
    finally:
        temporary.unlink(missing_ok=True)
    shard = Shard(task.file, count, hashed.size, hashed.digest.hexdigest())
    result = {"shard": dataclasses.asdict(shard), "sums": sums, "damaged": damaged}
    write_json(work.progress / f"{task.file}.json", result)
    return result


_work = None


def _start_worker(work):
    global _work
    _work = work


def _write_here(task):
    return write_shard(task, _work)


def write_shards(tasks, work, num_processes):
    """Yields the results of `write_shard` in order; a single process is this one."""
    if num_processes == 1:
        results = (write_shard(task, work) for task in tasks)
    else:
        results = map_in_order(_write_here, tasks, min(num_processes, len(tasks)), _start_worker, (work,))
    with contextlib.closing(results):
        yield from results
