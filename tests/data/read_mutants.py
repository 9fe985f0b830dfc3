"""Reads damaged copies of a data set, one after another, and prints what became of each.

    python tests/data/read_mutants.py FOLDER SCRATCH FIRST LAST

FOLDER holds a valid data set and kind.json: {"dataset", "size", "channels", "targets": files that are damaged,
"intact": how many images of `train` are in none of them}. Printed are, for every seed, "start SEED" before and
"end SEED OUTCOME TEXT" after. A seed that does not end has ended the process.
"""

import faulthandler
import json
import logging
import pathlib
import random
import resource
import shutil
import sys

from mutations import mutate_file

SECONDS = 10
MAX_ADDRESS_SPACE = 3 << 30
MAX_GROWTH_KIB = 300 << 10


def make(kind_folder, folder, seed):
    """Copies a data set with one file damaged."""
    kind = json.loads((kind_folder / "kind.json").read_text())
    generator = random.Random(f"{kind_folder.name} {seed}")
    shutil.copytree(kind_folder, folder, ignore=shutil.ignore_patterns("kind.json"))
    target = folder / generator.choice(kind["targets"])
    target.write_bytes(mutate_file(target.name, target.read_bytes(), generator))
    return kind


def read(kind, folder):
    """Reads all images of a folder as training does: (read, left out)."""
    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.image_set import ImageSet
    from nvae_tf.data.splits import open_images

    info = dataset_info(kind["dataset"]).with_size(kind["size"], kind["channels"])
    good = damaged = 0
    for split in ("train", "test"):
        store = open_images(info, folder, split, resize=info.resize or kind.get("resize", False))
        images = ImageSet(store, max_damaged=len(store)).load()
        shape = (len(store), info.stored_size, info.stored_size, info.channels)
        assert images.array.shape == shape and images.array.dtype == "uint8", images.array.shape
        damaged += len(images.damage.indices)
        good += images.num_good
    return good, damaged


def outcome(kind, folder):
    """One word, and a text for people."""
    try:
        good, damaged = read(kind, folder)
    except (ValueError, OSError) as error:
        text = f"{type(error).__name__}: {error}"
        named = str(folder) in str(error)
        return "error" if named else "unnamed", text
    except BaseException as error:
        return "failure", f"{type(error).__name__}: {error}"
    word = "skip" if damaged else "read"
    return word if good >= kind["intact"] else "failure", f"{good} read, {damaged} left out"


def peak_kib():
    """The most memory since the peak was forgotten."""
    # Not ru_maxrss: that of the process which started this one counts in it.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def main(kind_folder, scratch, first, last):
    faulthandler.enable()
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    # What is imported when it is needed is imported now.
    read(json.loads((kind_folder / "kind.json").read_text()), kind_folder)
    for seed in range(first, last):
        print("start", seed, flush=True)
        folder = scratch / f"{kind_folder.name}-{seed}"
        kind = make(kind_folder, folder, seed)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        before = peak_kib()
        # A thread of its own, which also ends C code that does not return.
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        word, text = outcome(kind, folder)
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(folder)
        growth = peak_kib() - before
        if growth > MAX_GROWTH_KIB:
            word, text = "memory", f"{growth >> 10} MiB; {text}"
        print("end", seed, word, ascii(text)[1:600], flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
