r"""Prepares a data set: writes it as shards of PNG files, which training reads quickly from any disk.

    python tools/prepare_data.py --dataset=celeba64 --data_dir=downloads/celeba --out_dir=data/celeba64

reads it in any of the formats that nvae_tf/data/README.md lists, with all cores. Train with --data_dir=data/celeba64.
If it is stopped, the same command resumes; once all is written, it verifies the files and replaces damaged ones.

    python tools/prepare_data.py --out_dir=data/celeba64 --inspect

prints what is in such a folder, verifies it and writes some of its images to contact_sheet.png.
"""

import os
import pathlib
import signal
import sys

from absl import flags

from nvae_tf.config.data import SPLIT_RULES
from nvae_tf.runs.interruption import EXIT_STATUS
from tools.flags import define_path, run

# The worker processes import this file too, so whatever they do not need is imported where it is used.

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Name of the data set, `folder` for your own images, or tfds:NAME.")
define_path("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
define_path("out_dir", None, "Folder to write, or to inspect.", required=True)
flags.DEFINE_integer("image_size", 64, "Height and width, for `folder` and tfds:NAME.", lower_bound=1)
flags.DEFINE_enum("channels", "3", ["1", "3"], "1 (grey) or 3 (RGB), for `folder` and tfds:NAME.")
flags.DEFINE_bool("resize", False, "Crop images of another size to a square around the centre and resize them.")
flags.DEFINE_integer("split_seed", 0, "Seed of the split if there is none.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_float("test_fraction", 0.1, "Fraction of images to hold out if there is no split.")
flags.DEFINE_enum(
    "split_rule", "name", SPLIT_RULES, "Rule of the split if there is none; `permutation` for a run of an old version."
)
flags.DEFINE_integer("num_processes", None, "Number of processes; all cores by default.", lower_bound=1)
flags.DEFINE_integer("max_damaged", 10, "Maximum number of damaged images to leave out of each split.", lower_bound=0)
flags.DEFINE_bool("download", False, "Let TensorFlow Datasets download the data set to --data_dir first.")
flags.DEFINE_bool("inspect", False, "Print and verify what is in --out_dir.")

flags.register_validator("test_fraction", lambda value: 0.0 < value < 1.0, "expected a fraction between 0 and 1")
flags.register_multi_flags_validator(
    ["dataset", "inspect"],
    lambda values: values["inspect"] or values["dataset"],
    message="--dataset: expected a name, or --inspect",
)
flags.register_multi_flags_validator(
    ["data_dir", "out_dir"],
    lambda values: (
        not values["data_dir"] or os.path.realpath(values["data_dir"]) != os.path.realpath(values["out_dir"])
    ),
    message="--out_dir: expected another folder than --data_dir",
)

_SHEET_COLUMNS, _SHEET_GAP = 10, 8


def _dataset_info():
    """`DatasetInfo` with the size and channels that the flags give."""
    from nvae_tf.data.datasets import dataset_info

    info = dataset_info(FLAGS.dataset).with_size(FLAGS.image_size, int(FLAGS.channels))
    for flag, expected in (("image_size", info.image_size), ("channels", info.channels)):
        if FLAGS[flag].present and FLAGS[flag].value != type(FLAGS[flag].value)(expected):
            raise ValueError(f"--{flag}: {info.name} has {expected}. Received: {FLAGS[flag].value}")
    return info


def _prepare():
    """Prepares the data set that the flags describe."""
    import tqdm

    from nvae_tf.config import DataConfig
    from nvae_tf.data.prepare import Preparation
    from nvae_tf.data.processes import num_cores
    from nvae_tf.runs.progress import Progress

    info = _dataset_info()
    if FLAGS.download:
        from nvae_tf.data.sources.tfds import prepare_tfds

        if not FLAGS.data_dir or not info.tfds_name:
            raise ValueError(
                "--download: expected --data_dir and a data set that TensorFlow Datasets has. "
                f"Received: --data_dir={FLAGS.data_dir}, --dataset={info.name}"
            )
        prepare_tfds(info.tfds_name, FLAGS.data_dir)
    num_processes = FLAGS.num_processes or num_cores()
    names = ("resize", "split_seed", "test_fraction", "split_rule", "max_damaged")
    config = DataConfig(**{name: FLAGS[name].value for name in names})
    print(f"{info.name}, to {FLAGS.out_dir}, {num_processes} processes", flush=True)

    def log(line):
        tqdm.tqdm.write(line, file=sys.stderr)  # above the progress bar, not across it

    Preparation(info, FLAGS.data_dir, config, num_processes, log, Progress).run(FLAGS.out_dir)
    inspect(verify=False)


def inspect(verify=True):
    """Prints the manifest; with `verify` also verifies the shards and writes the contact sheet."""
    from nvae_tf.data.processes import num_cores
    from nvae_tf.data.records import find_damaged, read_manifest

    folder = pathlib.Path(FLAGS.out_dir)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder}: expected the manifest.json of a prepared data set. Received: none")
    size = f"{manifest.image_size}x{manifest.image_size}x{manifest.channels}"
    print(f"{manifest.dataset}, {size} (height x width x channels), from {manifest.source}")
    print(f"resize {manifest.resize}, split_seed {manifest.split_seed}, test_fraction {manifest.test_fraction}")
    print(f"{'split':<12}{'images':>12}{'files':>8}{'MB':>12}{'damaged':>9}  mean of each channel")
    for split, shards in manifest.splits.items():
        images, size = sum(shard.num_images for shard in shards), sum(shard.bytes for shard in shards) / 1e6
        damaged = manifest.damaged(split)
        mean = ", ".join(f"{value:.2f}" for value in manifest.mean(split))
        print(f"{split:<12}{images:>12}{len(shards):>8}{size:>12.1f}{len(damaged):>9}  {mean}")
        for _, name in damaged:
            print(f"damaged, left out of {split}: {name}")
    if verify:
        damaged = find_damaged(folder, manifest.shards(), FLAGS.num_processes or num_cores())
        if damaged:
            raise ValueError(f"{folder}: the command that made it writes the damaged {', '.join(damaged)} again")
        print(f"{len(manifest.shards())} files verified", flush=True)
        print(f"written: {_write_contact_sheet(folder, manifest)}")


def _write_contact_sheet(folder, manifest):
    """Writes contact_sheet.png, with up to 10 x 10 images from across each split, one split below the other."""
    import numpy as np

    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.splits import open_splits
    from nvae_tf.evaluation.write_images import grid, write_png

    info = dataset_info("folder").with_size(manifest.image_size, manifest.channels)
    sheets = []
    for make in open_splits(info, folder)[1].values():
        images = make()
        chosen = np.linspace(0, len(images) - 1, min(len(images), _SHEET_COLUMNS**2)).round().astype(int)
        pixels = [image for _, image in images.read(chosen) if isinstance(image, np.ndarray)]
        sheet = grid(np.stack(pixels).astype(np.float32) / 255.0, _SHEET_COLUMNS)
        sheets += [sheet, np.full((_SHEET_GAP, *sheet.shape[1:]), 255, np.uint8)]
    path = folder / "contact_sheet.png"
    write_png(path, np.concatenate(sheets[:-1]))
    return path


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # No warning about resources that a stopped run leaves for multiprocessing to clean up.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    inspect() if FLAGS.inspect else _prepare()


if __name__ == "__main__":
    run(main, interrupted="stopped; the same command resumes", status=EXIT_STATUS)
