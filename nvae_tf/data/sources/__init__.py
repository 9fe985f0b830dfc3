"""The formats in which data sets are distributed, one module each.

A source's `find` looks at a folder and returns the splits that it holds in its format:

    find(root, info) -> {split: function of no arguments that returns a `SourceSplit`} or None

The splits are "train", "validation" and "test", or only "all" if the format has none. None means that nothing in the
folder has this format. `root` is a `pathlib.Path`; `info` is the `DatasetInfo`, with its size and channels known.
`find`, opening a split and reading it raise `ValueError` for files that are damaged as a whole. A split is read only
when it is used.

Packages other than NumPy and Pillow are imported in the function that needs them, so that looking at a folder is cheap
and worker processes start fast.
"""

import typing

from nvae_tf.data.records import find_prepared
from nvae_tf.data.sources.arrays import find_npz
from nvae_tf.data.sources.celeba_tree import find_celeba_tree
from nvae_tf.data.sources.cifar import find_cifar
from nvae_tf.data.sources.digits import find_digits
from nvae_tf.data.sources.glow import find_glow
from nvae_tf.data.sources.idx import find_idx
from nvae_tf.data.sources.image_folder import find_image_folder
from nvae_tf.data.sources.lmdb_folder import find_lmdb, find_lsun_lmdb
from nvae_tf.data.sources.omniglot import find_omniglot_mat, find_omniglot_tree
from nvae_tf.data.sources.pickled_batches import find_pickled_batches
from nvae_tf.data.sources.tfds import find_tfds
from nvae_tf.data.sources.zip_file import find_zip


class Source(typing.NamedTuple):
    """One format: what it looks for, named in the message if nothing is found, and `find` as described above."""

    looked_for: str
    find: typing.Callable


_SPLIT_FOLDERS = "train/ with test/ or validation/ (valid/, val/), or no such folders"
SOURCES = {
    "prepared": Source("manifest.json and the .array_record shards that tools/prepare_data.py writes", find_prepared),
    "digits": Source("nothing: the images are part of scikit-learn", find_digits),
    "idx": Source("train-images-idx3-ubyte and t10k-images-idx3-ubyte, gzipped or not", find_idx),
    "cifar": Source(
        "CIFAR-10's binary (data_batch_1.bin) or python (data_batch_1) batches, or cifar-10-binary.tar.gz or "
        "cifar-10-python.tar.gz as downloaded",
        find_cifar,
    ),
    "pickled_batches": Source("pickled or .npz batches train_data_batch_1 ... and val_data", find_pickled_batches),
    "omniglot_mat": Source("chardata.mat", find_omniglot_mat),
    "omniglot_tree": Source("images_background/ and images_evaluation/, or their .zip files", find_omniglot_tree),
    "celeba_tree": Source("img_align_celeba/ (or .zip) and list_eval_partition.txt", find_celeba_tree),
    "image_folder": Source(f"PNG, JPEG, WebP or BMP files in {_SPLIT_FOLDERS}", find_image_folder),
    "zip": Source(f"one .zip file of such images with {_SPLIT_FOLDERS}, or one .zip file for each split", find_zip),
    "npz": Source(
        "train.npy and test.npy (or validation.npy), one .npy or .npz file, all of uint8 [N, H, W, C]", find_npz
    ),
    "glow": Source(
        "Glow's TFRecords, NAME-00000-of-00016.tfrecords, beside each other or in train/ and validation/", find_glow
    ),
    "lmdb": Source("the LMDB folders train.lmdb and validation.lmdb (or test.lmdb)", find_lmdb),
    "lsun_lmdb": Source("LSUN's LMDB folders CATEGORY_train_lmdb and CATEGORY_val_lmdb", find_lsun_lmdb),
    "tfds": Source("a data set of TensorFlow Datasets that was prepared there (pip install -e '.[tfds]')", find_tfds),
}
"""Where a data set's files are, and what to say if they are not there."""
