"""Data sets that tools/prepare_data.py has written: PNG files in TFRecord shards, described by manifest.json."""

import functools

from nvae_tf.data.decode import DamagedImageError, decode
from nvae_tf.data.manifest import NAME, read_manifest
from nvae_tf.data.records import RecordFiles, decode_example

ANY_DATASET = "folder"


class PreparedStore:
    """The images of one split of a prepared data set.

    Args:
        folder: `pathlib.Path` of the data set.
        shards: list of `nvae_tf.data.manifest.Shard`.
        image_shape: (H, W, C).

    Attributes:
        image_shape: (H, W, C) of every image.
    """

    is_encoded = True

    def __init__(self, folder, shards, image_shape):
        counts = [shard.num_images for shard in shards]
        self.records = RecordFiles([folder / shard.file for shard in shards], counts)
        self.image_shape, self.source = image_shape, str(folder / NAME)

    def __len__(self):
        return len(self.records)

    def name(self, index):
        return self.records.name(index)

    def read_encoded(self, index):
        """Bytes of an image's PNG file, checked; raises `DamagedImageError`."""
        data = self.records.read(index)
        encoded = decode_example(data, self.name(index))["image/encoded"].bytes_list.value
        if not encoded:
            raise DamagedImageError(f"{self.name(index)}: expected image/encoded. Received: no such feature")
        return encoded[0]

    def read(self, index):
        name = self.name(index)
        pixels = decode(self.read_encoded(index), self.image_shape[2], name)
        if pixels.shape != self.image_shape:
            raise DamagedImageError(
                f"{name}: expected an image of {list(self.image_shape)}. Received: {list(pixels.shape)}"
            )
        return pixels


def _check(manifest, root, info):
    path = root / NAME
    if info.name not in (ANY_DATASET, manifest.dataset):
        raise ValueError(f"{path}: dataset: expected {info.name}. Received: {manifest.dataset}")
    size, channels = info.stored_size, info.channels
    if (manifest.image_height, manifest.image_width, manifest.channels) != (size, size, channels):
        raise ValueError(
            f"{path}: expected images of {size}x{size}x{channels} (height x width x channels). "
            f"Received: {manifest.image_height}x{manifest.image_width}x{manifest.channels}"
        )
    for shard in manifest.shards():
        file = root / shard.file
        received = file.stat().st_size if file.is_file() else None
        if received != shard.bytes:
            raise ValueError(
                f"{file}: expected {shard.bytes} bytes. Received: {'no such file' if received is None else received}; "
                "tools/prepare_data.py writes it again"
            )


def find_prepared(root, info):
    """The splits of a prepared data set.

    Args:
        root: `pathlib.Path` of the folder with manifest.json.
        info: `DatasetInfo`; `folder` takes a data set that was prepared by any name.

    Returns:
        {split: function of nothing that gives a `PreparedStore`}, or None where there is no manifest of this format.

    Raises:
        ValueError: another data set or image size, a damaged manifest, or a shard that is missing or of another size.
    """
    manifest = read_manifest(root)
    if manifest is None:
        return None
    _check(manifest, root, info)
    shape = (manifest.image_height, manifest.image_width, manifest.channels)
    return {
        name: functools.partial(PreparedStore, root, split.shards, shape) for name, split in manifest.splits.items()
    }
