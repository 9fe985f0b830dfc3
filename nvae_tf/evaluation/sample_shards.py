"""Large numbers of samples in files of equal size, drawn by any number of workers, each of which can resume.

FOLDER/
  shards.json          what the images depend on; another run, seed or temperature is refused
  images_000003.npy    uint8 [shard_size, H, W, C]: images from 3 * shard_size on; whole or absent
"""

import contextlib
import json
import os

import numpy as np

from nvae_tf.files import new_file, temporary_name


def shard_numbers(first, num, shard_size, worker_index, num_workers):
    """Numbers of the shards that a worker draws, out of all shards with images `first` to `first + num`."""
    for name, value in (("first", first), ("num", num)):
        if value % shard_size:
            raise ValueError(f"--{name}: expected a multiple of --shard_size={shard_size}. Received: {value}")
    return range(first // shard_size + worker_index, (first + num) // shard_size, num_workers)


def shard_path(folder, number):
    """Path of a shard."""
    return folder / f"images_{number:06}.npy"


def begin(folder, settings):
    """Creates the folder; raises `ValueError` if its images were drawn with other `settings`, a dict."""
    path = folder / "shards.json"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.write_text(json.dumps(settings, indent=2) + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)  # the first worker's settings count: nothing is replaced
    temporary.unlink()
    found = json.loads(path.read_text())
    other = {name: value for name, value in settings.items() if found.get(name) != value}
    if other:
        expected = {name: found.get(name) for name in other}
        raise ValueError(f"{path}: expected {expected}, with which its shards were drawn. Received: {other}")


def write_shard(path, first, shard_size, batch_size, draw):
    """Draws a shard, whose first image is number `first`, in batches; yields the number of images drawn after each.

    `draw` is a function from the number of an image to uint8 [batch_size, H, W, C]: the images from that one on.
    """
    with new_file(path) as temporary:
        shard = None
        for start in range(0, shard_size, batch_size):
            images = draw(first + start)
            if shard is None:  # mapped, so that only one batch is in memory
                shard = np.lib.format.open_memmap(temporary, "w+", np.uint8, (shard_size, *images.shape[1:]))
                with open(temporary, "r+b") as file:  # a full disk would kill a process that writes to mapped memory
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            shard[start : start + batch_size] = images[: shard_size - start]
            yield min(start + batch_size, shard_size)
        shard.flush()
