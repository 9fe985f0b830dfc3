"""Fingerprints: of images, whatever files they are stored in, and of files, without reading them."""

import contextlib
import hashlib
import os
import pathlib

_NUM_SAMPLED, _SAMPLED_BYTES = 64, 1 << 16


def pixel_hash(image):
    """BLAKE2b of the shape and pixels of an image, uint8 [H, W, C] without padding, as an integer of 128 bits.

    The sum of the hashes is a fingerprint of a set of images: order does not matter, and sums of parts add up.
    """
    return int.from_bytes(hashlib.blake2b(f"{image.shape}".encode() + image.tobytes(), digest_size=16).digest())


def fingerprint_text(hashes):
    """A sum of hashes, modulo 2^128, in hexadecimal."""
    return f"{hashes % 2**128:032x}"


def files_digest(splits, times=True):
    """SHA-256 of the names and sizes of the files that `SplitImages` are read from and, with `times`, of their times.

    Without, the beginnings of 64 of the files count, and copies of all have the same digest. Names are relative to the
    folder that was found, which may be moved. In a folder of images only images count.
    """
    files = set()
    for split in (images.split for images in splits):
        for path in map(pathlib.Path, split.paths):
            if path.is_dir():
                names = split.names or [name.relative_to(path) for name in path.rglob("*") if name.is_file()]
                files |= {(str(name), os.path.join(path, name)) for name in names}
            else:
                files.add((path.name, str(path)))
    digest = hashlib.sha256()
    for place, (name, file) in enumerate(sorted(files)):
        status = os.stat(file, follow_symlinks=os.path.exists(file))  # a link to nothing stands for itself
        entry = f"{name}\n{status.st_size}\n{status.st_mtime_ns if times else ''}\n"
        digest.update(entry.encode("utf-8", "surrogateescape"))
        if not times and place % (len(files) // _NUM_SAMPLED + 1) == 0:
            with contextlib.suppress(OSError), open(file, "rb") as opened:  # one that cannot be read is a damaged image
                digest.update(opened.read(_SAMPLED_BYTES))
    return digest.hexdigest()
