"""`SourceSplit`: the images of one split, in whatever format they are found."""

import collections.abc
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class SourceSplit:
    """The images of one split of a data set, in the form they were found in.

    Attributes:
        source: what is read and from where, for messages and manifests.
        num_images: number of images.
        read: function of an increasing int array of indices that yields (name, image) for each of them. The name is
            a str that identifies the image in messages. The image is uint8 [H, W, C] with the data set's channels and
            the size it is stored in, or, where it cannot be read, the `DamagedImageError`. The function can be
            pickled, because several processes read parts of a split; it opens its files when the generator starts and
            closes them when it ends.
        paths: the files and folders that are read; a folder stands for all files below it. A prepared copy of the
            split is made again when one of them changes. Default ().
        decodes: whether reading decodes one image after the other, so that several processes are faster than one.
            False where the file is read as one array. Default True.
        open_records: function of no arguments that opens the split's `PreparedRecords`; None for images that are not
            prepared. Default None.
    """

    source: str
    num_images: int
    read: collections.abc.Callable
    paths: tuple = ()
    decodes: bool = True
    open_records: collections.abc.Callable | None = None
