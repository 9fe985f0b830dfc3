"""`SourceSplit`: the images of one split, whatever format they are stored in."""

import collections.abc
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class SourceSplit:
    """The images of one split of a data set, as they are stored.

    Attributes:
        source: description of the format and the place, for messages and manifests.
        num_images: number of images.
        read: function of an increasing int array of indices that yields (name, image) for each of them. The name is
            a str that identifies the image in messages. The image is uint8 [H, W, C] with the data set's channels and
            its stored size or, if it cannot be read, a `DamagedImageError`. The function can be pickled, because
            several processes read parts of a split; its generator opens the files when it starts and closes them when
            it ends.
        paths: files and folders that are read; a folder stands for all files below it. When one of them changes, a
            prepared copy of the split is made again. Default ().
        decodes: whether reading decodes the images one by one, so that several processes are faster than one. False if
            the file is read as one array. Default True.
        selection: text that names and counts what was taken of the place and what was left out. Default "", for formats
            in which all is taken.
        names: list with the name of each image within its folder or archive, with "/"; it decides the side of the image
            where a split is drawn. None if images have no names: then their number does. Default None.
        fingerprint: sum of the `pixel_hash` of all images, if known without reading them. None otherwise. Default None.
        drawn_by: {field of `DataConfig`: value} by which a prepared split was drawn; None if it was not drawn, or if
            that is not known. Default None.
        open_records: function of no arguments that opens the split's `PreparedRecords`; None for images that are not
            prepared. Default None.
    """

    source: str
    num_images: int
    read: collections.abc.Callable
    paths: tuple = ()
    decodes: bool = True
    selection: str = ""
    names: list | None = None
    fingerprint: int | None = None
    drawn_by: dict | None = None
    open_records: collections.abc.Callable | None = None
