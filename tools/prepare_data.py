r"""Writes a data set as PNG files in TFRecord shards, which training reads fast from any disk.

    python tools/prepare_data.py --dataset=celeba64 --data_dir=downloads/celeba --out_dir=data/celeba64

reads it in any of the forms that the README lists, with all cores. Train with --data_dir=data/celeba64. Stopped at any
moment, the same command goes on; once it is done, the same command verifies the files and writes damaged ones again.

    python tools/prepare_data.py --out_dir=data/celeba64 --inspect

prints what is in such a folder, verifies it and writes some of its images to contact_sheet.png.
"""

import errno
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from concurrent.futures import Future, wait
from multiprocessing import resource_tracker

from absl import app, flags

from nvae_tf.data.parallel import WorkerLostError

# The processes that do the work import this file too: what they do not need is imported where it is needed.

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Name of the data set, `folder` for your own images, or tfds:NAME.")
flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
flags.DEFINE_string("out_dir", None, "Folder to write, or to inspect.", required=True)
flags.DEFINE_integer("image_size", 64, "Height and width, for `folder` and tfds:NAME.", lower_bound=1)
flags.DEFINE_enum("channels", "3", ["1", "3"], "1 (grey) or 3 (RGB), for `folder` and tfds:NAME.")
flags.DEFINE_bool("resize", False, "Cut images of another size to a square, in the middle, and resize them.")
flags.DEFINE_integer("split_seed", 0, "Seed of the split, where there is none.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_float("test_fraction", 0.1, "Fraction of images held out, where there is no split.")
flags.DEFINE_integer(
    "images_per_shard", None, "Images of a file. By default 256 MiB of pixels, or less for 32 files.", lower_bound=1
)
flags.DEFINE_integer("num_processes", None, "Processes that work; all cores by default.", lower_bound=1)
flags.DEFINE_integer("max_damaged", 10, "Images of a split that are left out if they are damaged.", lower_bound=0)
flags.DEFINE_bool("download", False, "Let TensorFlow Datasets download the data set to --data_dir first.")
flags.DEFINE_bool("inspect", False, "Print and verify what is in --out_dir.")

flags.register_multi_flags_validator(
    ["data_dir", "download"],
    lambda values: values["data_dir"] is None or values["download"] or os.path.isdir(values["data_dir"]),
    message="--data_dir: expected an existing folder",
)
_IS_FRACTION = "expected a fraction between 0 and 1"
flags.register_validator("test_fraction", lambda value: 0.0 < value < 1.0, message=_IS_FRACTION)
flags.register_validator(
    "out_dir",
    lambda path: path is None or os.path.isdir(path) or not os.path.lexists(path),
    message="expected a folder, or a new name",
)
flags.register_multi_flags_validator(
    ["dataset", "inspect"],
    lambda values: values["inspect"] or values["dataset"],
    message="--dataset: expected a name, or --inspect",
)
flags.register_multi_flags_validator(
    ["data_dir", "out_dir"],
    lambda values: (
        values["data_dir"] is None or os.path.realpath(values["data_dir"]) != os.path.realpath(values["out_dir"])
    ),
    message="--out_dir: expected another folder than --data_dir",
)

# EX_TEMPFAIL of sysexits.h, as of tools/train.py: the work is not done; the same command goes on with it.
_EXIT_STATUS = 75
_SHEET_COLUMNS, _SHEET_GAP = 10, 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_TRIES, _STOP_SECONDS = 50, 0.02


class _Stopped(BaseException):
    """A signal has come."""


def _stop(number, frame):
    for once_more in _SIGNALS:
        signal.signal(once_more, signal.SIG_DFL)
    raise _Stopped(signal.Signals(number).name)


def _run_until_stopped(function):
    """Calls a function in a thread of its own, where no signal comes between the start of a process and its work."""
    future = Future()

    def run():
        # Ctrl-C reaches every process of a terminal. Those that are started here take over that it is blocked; but the
        # first start of all, that of multiprocessing's helper, ends with SIGINT unblocked. What a stopped run leaves to
        # the helper to remove is nothing to warn of.
        sys.warnoptions.append("ignore:resource_tracker:UserWarning")
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        for number in _SIGNALS:
            signal.signal(number, _stop)
        future.result()
    except _Stopped as stopped:
        # In one piece: print would let a line of progress in before the end of the line.
        sys.stderr.write(f"prepare_data.py: {stopped}: stopped; the same command goes on with what is done\n")
        for _ in range(_STOP_TRIES):
            # Also those that were just being started. Nobody waits for shards that are half done.
            done = wait([future], _STOP_SECONDS).done
            for process in multiprocessing.active_children():
                process.kill()
            if done:
                break
        sys.stdout.flush()
        os._exit(_EXIT_STATUS)  # an ordinary end would wait for threads that verify files


def _dataset_info():
    """`DatasetInfo` as the flags say; raises `ValueError` where they do not go together."""
    from nvae_tf.data.datasets import dataset_info

    info = dataset_info(FLAGS.dataset)
    if info.image_size is not None:
        for flag, expected in (("image_size", info.image_size), ("channels", str(info.channels))):
            if FLAGS[flag].present and FLAGS[flag].value != expected:
                raise ValueError(f"--{flag}: {info.name} has {expected}. Received: {FLAGS[flag].value}")
    if FLAGS.download and info.tfds_name is None:
        raise ValueError(f"--download: expected a data set of TensorFlow Datasets. Received: {info.name}")
    return info.with_size(FLAGS.image_size, int(FLAGS.channels))


def _in_flags(error):
    """The message of an error, with the names of the flags for those of a run's configuration."""
    text = str(error).replace("data.resize=True", "--resize").replace("data.dataset:", "--dataset:")
    return f"--{text}" if text.startswith(("max_damaged:", "data_dir:")) else text


def prepare():
    """Prepares the data set as the flags say."""
    import tqdm

    from nvae_tf.data.parallel import num_cores
    from nvae_tf.data.prepare import Options, Preparation
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
    options = Options(
        resize=FLAGS.resize,
        split_seed=FLAGS.split_seed,
        test_fraction=FLAGS.test_fraction,
        images_per_shard=FLAGS.images_per_shard,
        num_processes=FLAGS.num_processes or num_cores(),
        max_damaged=FLAGS.max_damaged,
    )
    print(f"{info.name}, to {FLAGS.out_dir}, {options.num_processes} processes", flush=True)

    def log(line):
        tqdm.tqdm.write(line, file=sys.stderr)  # above the bar, not across it

    manifest = Preparation(info, FLAGS.data_dir, FLAGS.out_dir, options, log, Progress).run()
    for name, split in manifest.splits.items():
        print(f"{name}: {split.num_images} images in {len(split.shards)} files, {len(split.damaged)} damaged left out")
    print(f"complete: {FLAGS.out_dir}")


def format_manifest(manifest):
    """The lines that are printed for a `Manifest`."""
    size = f"{manifest.image_height}x{manifest.image_width}x{manifest.channels}"
    options = ("resize", "split_seed", "test_fraction", "images_per_shard")
    lines = [
        f"{manifest.dataset}, {size} (height x width x channels), from {manifest.source}",
        ", ".join(f"{option} {getattr(manifest, option)}" for option in options),
        "",
        f"{'split':<12}{'images':>12}{'files':>8}{'MB':>12}{'damaged':>9}  mean of the channels",
    ]
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards) / 1e6
        mean = ", ".join(f"{value:.2f}" for value in split.mean)
        lines.append(
            f"{name:<12}{split.num_images:>12}{len(split.shards):>8}{size:>12.1f}{len(split.damaged):>9}  {mean}"
        )
    lines += [
        f"damaged, left out of {name}: {image}" for name, split in manifest.splits.items() for image in split.damaged
    ]
    return "\n".join(lines)


def _write_contact_sheet(folder, manifest):
    """Writes contact_sheet.png, up to 10 x 10 images spread over each split, one split below the other; its path."""
    import numpy as np

    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.sources.prepared import find_prepared
    from nvae_tf.evaluation.write_images import grid, write_png

    info = dataset_info("folder").with_size(manifest.image_height, manifest.channels)
    sheets = []
    for make in find_prepared(folder, info).values():
        store = make()
        chosen = np.linspace(0, len(store) - 1, min(len(store), _SHEET_COLUMNS**2)).round().astype(int)
        images = np.stack([store.read(index) for index in chosen.tolist()])
        sheet = grid(images.astype(np.float32) / 255.0, _SHEET_COLUMNS)
        sheets += [sheet, np.full((_SHEET_GAP, *sheet.shape[1:]), 255, np.uint8)]
    path = folder / "contact_sheet.png"
    write_png(path, np.concatenate(sheets[:-1]))
    return path


def inspect():
    """Prints the manifest, verifies the files and writes the contact sheet."""
    from nvae_tf.data.manifest import find_faults, read_manifest
    from nvae_tf.data.parallel import num_cores

    folder = pathlib.Path(FLAGS.out_dir)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder}: expected the manifest.json of a prepared data set. Received: none")
    print(format_manifest(manifest), flush=True)
    faults = find_faults(folder, manifest.shards(), FLAGS.num_processes or num_cores())
    if faults:
        raise ValueError("\n".join(["damaged; the command that made the folder writes them again:", *faults.values()]))
    print(f"{len(manifest.shards())} files verified")
    print(f"written: {_write_contact_sheet(folder, manifest)}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    try:
        _run_until_stopped(inspect if FLAGS.inspect else prepare)
    except (ValueError, ImportError) as error:
        sys.exit(f"prepare_data.py: {_in_flags(error)}")
    except WorkerLostError as error:
        sys.exit(f"prepare_data.py: a process has died ({error}); the same command goes on, with fewer --num_processes")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        more = "; what is done is kept, and the same command goes on when there is room" if full else ""
        sys.exit(f"prepare_data.py: {_in_flags(error)}{more}")


if __name__ == "__main__":
    app.run(main)
