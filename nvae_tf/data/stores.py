"""Image stores: the images of one split by index, wherever they are.

A store has

    source        str, what it reads and from where, for messages and manifests
    __len__()     number of images
    name(index)   str that names one image in a message: its file, entry, key or record
    read(index)   uint8 [H, W, C] with the data set's channels, of the size it is stored in

and, where the images are in memory anyway, as_array(): uint8 [N, H, W, C], or None; and, where they are kept as PNG
files of one shape and of the right channels, is_encoded = True, image_shape (H, W, C) and read_encoded(index), bytes.

`read` raises `DamagedImageError` for an image that cannot be read. Stores can be pickled and read from several
threads; what they hold open is opened again in another process.
"""

import numpy as np

from nvae_tf.data.decode import to_channels


def whole_array(store):
    """The images of a store as one array, where they are in memory; else None."""
    return store.as_array() if hasattr(store, "as_array") else None


def is_encoded(store):
    """Whether a store has `read_encoded`."""
    return getattr(store, "is_encoded", False)


class ArrayStore:
    """Images that are in memory.

    Args:
        array: uint8, [N, H, W, C].
        channels: of the data set.
        source: what was read.
    """

    def __init__(self, array, channels, source):
        self.array, self.channels, self.source = array, channels, source

    def __len__(self):
        return len(self.array)

    def name(self, index):
        return f"{self.source}, image {index}"

    def read(self, index):
        return to_channels(self.array[index], self.channels, self.name(index))

    def as_array(self):
        return self.array if self.array.shape[1:][2:] == (self.channels,) else None


class SubsetStore:
    """Some images of another store, in an order of their own.

    Args:
        store: the other store.
        indices: int array of the images that count.
    """

    def __init__(self, store, indices):
        self.store, self.indices, self.source = store, np.asarray(indices, np.int64), store.source

    def __len__(self):
        return len(self.indices)

    def name(self, index):
        return self.store.name(int(self.indices[index]))

    def read(self, index):
        return self.store.read(int(self.indices[index]))

    def as_array(self):
        array = whole_array(self.store)
        return None if array is None else array[self.indices]

    @property
    def image_shape(self):
        return self.store.image_shape

    @property
    def is_encoded(self):
        return is_encoded(self.store)

    def read_encoded(self, index):
        return self.store.read_encoded(int(self.indices[index]))


class FittedStore:
    """The images of another store, brought to one size.

    Args:
        store: the other store.
        fit: `Fit`.
    """

    def __init__(self, store, fit):
        self.store, self.fit, self.source = store, fit, store.source

    def __len__(self):
        return len(self.store)

    def name(self, index):
        return self.store.name(index)

    def read(self, index):
        return self.fit(self.store.read(index), self.name(index))

    def as_array(self):
        array = whole_array(self.store)
        fits = array is not None and array.shape[1:3] == (self.fit.height, self.fit.width)
        return array if fits else None
