"""Fingerprints: of images, whatever files they are stored in, and of files, without reading them."""

import hashlib
import os
import pathlib

_MODULUS = 1 << 128


def pixel_sum(images):
    """Sum of the hashes of decoded images, modulo 2^128: equal for the same images in any order.

    Args:
        images: iterable of uint8 arrays [H, W, C], without padding. Each counts with its 16-byte BLAKE2b of shape and
            pixels, so that sums of parts of a set add up to that of the whole.
    """
    total = 0
    for image in images:
        digest = hashlib.blake2b(f"{image.shape}".encode() + image.tobytes(), digest_size=16)
        total += int.from_bytes(digest.digest())
    return total % _MODULUS


def add(*sums):
    """Sum of fingerprints; a negative one takes its images away."""
    return sum(sums) % _MODULUS


def files_digest(splits, times=True):
    """SHA-256 of the names and sizes of the files that `SplitImages` are read from, which is quick.

    Names are relative to the folder that was found, so that it may be moved. Of a folder of images only the images
    count. With `times`, modification times count too.
    """
    files = set()
    for split in (images.split for images in splits):
        for path in map(pathlib.Path, split.paths):
            if not path.is_dir():
                files.add((path.name, os.fspath(path)))
            elif split.names is not None:
                files |= {(name, os.path.join(path, name)) for name in split.names}
            else:
                below = (os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
                files |= {(os.path.relpath(file, path), file) for file in below}
    digest = hashlib.sha256()
    for name, file in sorted(files):
        status = os.stat(file, follow_symlinks=os.path.exists(file))  # a link to nothing stands for itself
        entry = f"{name}\n{status.st_size}\n" + (f"{status.st_mtime_ns}\n" if times else "")
        digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
