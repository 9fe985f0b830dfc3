"""Writes the shards of a prepared data set, in the processes that `nvae_tf.data.prepare` starts."""

import contextlib
import dataclasses
import os
import typing

import numpy as np

from nvae_tf.data.decode import DamagedImageError, encode_png
from nvae_tf.data.fingerprint import fingerprint_text, pixel_hash
from nvae_tf.data.processes import map_in_processes
from nvae_tf.data.records import SUFFIX, Shard
from nvae_tf.files import file_sum, new_file, read_json, write_json

_SHARD_BYTES = 256 * 2**20
_MIN_SHARDS, _MIN_IMAGES = 32, 64
_MAX_SHARDS = 512  # each is open during training, and a process may have 1,024 open files
_RESUMES = "what is done is kept, and the same command resumes"
_WRITER_OPTIONS = "group_size:1,uncompressed"  # PNG files are compressed already


def images_per_shard(num_images, image_bytes):
    """Number of images in each shard of a split: 256 MiB of pixels, 100 to 200 MB as PNG files of photographs.

    If that gives fewer than 32 shards for the processes to share, a shard has fewer images, but at least 64; if it
    gives more than 512 shards, a shard has more images.
    """
    shared = max(-(-num_images // _MIN_SHARDS), _MIN_IMAGES)
    return max(min(_SHARD_BYTES // image_bytes, shared), -(-num_images // _MAX_SHARDS))


class Task(typing.NamedTuple):
    """One shard: images `start` to `stop` of a split."""

    split: str
    file: str
    start: int
    stop: int


def make_tasks(splits):
    """The shards to write for {split: `SplitImages`}, as a list of `Task`."""
    tasks = []
    for split, images in splits.items():
        size = images_per_shard(len(images), images.fit.height * images.fit.width * images.channels)
        starts = range(0, len(images), size)
        for number, start in enumerate(starts):
            file = f"{split}-{number:05}-of-{len(starts):05}{SUFFIX}"
            tasks.append(Task(split, file, start, min(start + size, len(images))))
    return tasks


def _write_shard(work, task):
    """Writes a shard and its description; returns the `Shard` and the messages about damaged images."""
    from array_record.python.array_record_module import ArrayRecordWriter

    splits, data_dir, folder, progress = work
    images, path = splits[task.split], folder / task.file
    sums, damaged, messages, fingerprint = np.zeros(images.channels, np.int64), [], [], 0
    with new_file(path) as temporary:
        try:
            with contextlib.closing(ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)) as writer:
                for index, (name, image) in enumerate(images.read(slice(task.start, task.stop)), task.start):
                    if isinstance(image, DamagedImageError):
                        damaged.append([index, name.removeprefix(f"{data_dir}{os.sep}")])
                        messages.append(str(image))
                    else:
                        writer.write(encode_png(image))
                        sums += image.sum((0, 1), np.int64)
                        fingerprint += pixel_hash(image)
        except RuntimeError as error:  # from the writer, for example because the disk is full
            raise OSError(f"{path}: {error}; {_RESUMES}") from error
        count = task.stop - task.start - len(damaged)
        names = None if images.split.names is None else images.subset(slice(task.start, task.stop)).names
        described = (sums.tolist(), damaged, names, fingerprint_text(fingerprint))
        shard = Shard(task.file, count, temporary.stat().st_size, file_sum(temporary), *described)
    try:
        write_json(progress / f"{task.file}.json", dataclasses.asdict(shard))
    except OSError as error:
        raise OSError(f"{path}: {error}; {_RESUMES}") from error
    return shard, messages


def finished_shard(progress, task):
    """The `Shard` that an earlier run described as finished, or None."""
    described = read_json(progress / f"{task.file}.json")
    return described and Shard(**described)


def write_shards(tasks, work, num_processes):
    """Writes the shards of a list of `Task`; yields (`Shard`, messages about its damaged images) for each, in order.

    `work` is ({split: `SplitImages`}, absolute path to remove from the names of images, folder for the shards, folder
    for the descriptions of finished shards).
    """
    if num_processes == 1 or not tasks:
        yield from (_write_shard(work, task) for task in tasks)
    else:
        yield from map_in_processes(_write_shard, work, tasks, min(num_processes, len(tasks)))
