"""manifest.json of a prepared data set: what is in the folder, without anything of the machine that made it."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os

NAME = "manifest.json"
FORMAT = "nvae_tf prepared images"
VERSION = 1
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """One TFRecord file.

    Attributes:
        file: its name in the folder.
        num_images: records in it.
        bytes, sha256: of the whole file.
    """

    file: str
    num_images: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """The images of one split.

    Attributes:
        num_images: in all shards.
        damaged: names of the source's images that could not be read and are left out.
        mean: of each channel, 0 to 255.
        shards: list of `Shard`, in order.
    """

    num_images: int
    damaged: list
    mean: list
    shards: list


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """A prepared data set.

    Attributes:
        dataset: its name in `nvae_tf.data.datasets`.
        source: name in `nvae_tf.data.sources.SOURCES` of the form that it was read in.
        image_height, image_width, channels: of every image.
        resize: whether images of any size were resized.
        split_seed, test_fraction: of the split, where the source had none.
        images_per_shard: of the source, damaged ones included.
        splits: {name: `Split`}.
    """

    dataset: str
    source: str
    image_height: int
    image_width: int
    channels: int
    resize: bool
    split_seed: int
    test_fraction: float
    images_per_shard: int
    splits: dict

    def shards(self):
        """All shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]


def write_json(path, values):
    """Writes a dict as JSON, to a temporary name first."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1, allow_nan=False)
        file.write("\n")
    os.replace(temporary, path)


def write_manifest(folder, manifest):
    """Writes FOLDER/manifest.json at one stroke."""
    write_json(folder / NAME, {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)})


def read_manifest(folder):
    """Reads FOLDER/manifest.json.

    Args:
        folder: `pathlib.Path`.

    Returns:
        `Manifest`, or None where there is none, or another program's.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        if FORMAT not in text:
            return None
        raise ValueError(f"{path}: expected JSON. Received: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        return None
    version = values.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path}: version: expected {VERSION}. Received: {version!r}")
    manifest = _build(Manifest, values, str(path))
    splits = {name: _read_split(values, f"{path}: splits.{name}") for name, values in manifest.splits.items()}
    return dataclasses.replace(manifest, splits=splits)


def _build(cls, values, where):
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    if not isinstance(values, dict) or set(values) != set(fields):
        received = sorted(values) if isinstance(values, dict) else values
        raise ValueError(f"{where}: expected the fields {sorted(fields)}. Received: {received!r}")
    for name, kind in fields.items():
        value = values[name]
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if not fits or (kind is int and value < 0):
            raise ValueError(f"{where}: {name}: expected {kind.__name__}, not negative. Received: {value!r}")
    return cls(**values)


def _read_split(values, where):
    split = _build(Split, values, where)
    shards = [_read_shard(shard, f"{where}.shards[{number}]") for number, shard in enumerate(split.shards)]
    total = sum(shard.num_images for shard in shards)
    if total != split.num_images:
        raise ValueError(f"{where}: num_images: expected {total}, the sum of the shards. Received: {split.num_images}")
    if not all(isinstance(value, (int, float)) for value in split.mean):
        raise ValueError(f"{where}: mean: expected numbers. Received: {split.mean!r}")
    return dataclasses.replace(split, shards=shards)


def _read_shard(values, where):
    shard = _build(Shard, values, where)
    # A manifest from elsewhere must not lead out of its folder.
    if os.path.basename(shard.file) != shard.file or shard.file in ("", ".", ".."):
        raise ValueError(f"{where}: file: expected the name of a file in the folder. Received: {shard.file!r}")
    return shard


def sha256_of(path):
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fault(folder, shard):
    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{path}: expected {shard.bytes} bytes. Received: {size}"
        received = sha256_of(path)
    except FileNotFoundError:
        return f"{path}: expected a file. Received: none"
    return None if received == shard.sha256 else f"{path}: expected SHA-256 {shard.sha256}. Received: {received}"


def find_faults(folder, shards, num_threads=1):
    """Compares files with their checksums.

    Args:
        folder: `pathlib.Path`.
        shards: list of `Shard`.
        num_threads: that read at once. Default 1.

    Returns:
        {file: what is wrong with it}; empty where all are as they should be.
    """
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        faults = pool.map(lambda shard: _fault(folder, shard), shards)
        return {shard.file: fault for shard, fault in zip(shards, faults, strict=True) if fault}
