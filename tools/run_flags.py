"""The flags that programs which work on a run have in common."""

import math
import os

from absl import flags

# The program that calls a function below lists the flags in its --help.
flags.disclaim_key_flags()


def define_run():
    """The flags --run_dir, --step and --ema: which model of which run."""
    flags.DEFINE_string("run_dir", None, "Folder of the run: config.json and checkpoints/.", required=True)
    define_checkpoint()
    flags.register_validator(
        "run_dir",
        lambda path: path is None or os.path.isfile(os.path.join(path, "config.json")),
        message="expected a run folder with config.json",
    )


def define_checkpoint():
    """The flags --step and --ema: which model of a run."""
    flags.DEFINE_string("step", None, "Step of the checkpoint, or best; the latest if not given.")
    flags.DEFINE_bool("ema", True, "Use the moving average of the weights where the run keeps one.")


def define_statistics():
    """The flag --bn_temperature."""
    flags.DEFINE_float(
        "bn_temperature", None, "Use the batch-norm statistics that readjust_bn.py made at this temperature."
    )


def define_data_dir():
    """The flag --data_dir."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
    flags.register_validator(
        "data_dir", lambda path: path is None or os.path.isdir(path), message="expected an existing folder"
    )


def define_images():
    """The flags --data_dir, --split and --seed: which images, and how they are binarised."""
    define_data_dir()
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which images.")
    flags.DEFINE_integer("seed", 0, "Seed of binarisation and noise.", lower_bound=0)


def define_output(description, *suffixes):
    """The flag --out: a file whose name ends in one of `suffixes`, in an existing folder."""
    flags.DEFINE_string("out", None, description)
    flags.register_validator(
        "out",
        lambda path: path is None or (path.endswith(suffixes) and os.path.isdir(os.path.dirname(path) or ".")),
        message=f"expected a name ending in {' or '.join(suffixes)} in an existing folder",
    )


def define_temperature(description):
    """The flag --temperature."""
    flags.DEFINE_float("temperature", 1.0, description)
    flags.register_validator(
        "temperature", lambda value: 0.0 < value < math.inf, message="expected a positive, finite number"
    )


def define_starts():
    """The flags --images and --seeds, of which one must be given."""
    flags.DEFINE_list("images", None, "Images of the data set, by their numbers in the split, from 0.")
    flags.DEFINE_list("seeds", None, "Images of the prior: for each seed S the one of sample.py --seed=S --num=1.")
    flags.mark_flags_as_mutual_exclusive(["images", "seeds"], required=True)
    for name in ("images", "seeds"):
        flags.register_validator(
            name,
            lambda texts: texts is None or (bool(texts) and all(map(_is_number, texts))),
            message="expected whole numbers from 0 on with commas between them",
        )


def _is_number(text):
    return text.isascii() and text.isdigit() and int(text) < 2**36
