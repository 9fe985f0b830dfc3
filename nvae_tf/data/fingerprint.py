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
    """SHA-256 of the names and sizes of the files that `SplitImages` are read from and, with `times`, of their
    modification times."""
    digest = hashlib.sha256()
    for path in sorted({pathlib.Path(path) for images in splits for path in images.split.paths}):
        below = sorted(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
        for file in below if path.is_dir() else [path]:
            status = os.stat(file, follow_symlinks=os.path.exists(file))  # a link to nothing stands for itself
            entry = f"{os.path.relpath(file, path.parent)}\n{status.st_size}\n"
            entry += f"{status.st_mtime_ns}\n" if times else ""
            digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
