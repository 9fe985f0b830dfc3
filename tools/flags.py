"""The flags that several programs share, and how every program starts and ends."""

import math
import os
import sys

from absl import app, flags, logging

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
    """The flags --data_dir and --cache_dir."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
    flags.register_validator(
        "data_dir", lambda path: path is None or os.path.isdir(path), message="expected an existing folder"
    )
    flags.DEFINE_string(
        "cache_dir",
        None,
        "Folder for prepared copies of data sets larger than data.cache_gib; $XDG_CACHE_HOME/nvae_tf if not given, or "
        "~/.cache/nvae_tf.",
    )


def define_images():
    """The flags --data_dir, --cache_dir, --split and --seed: which images, and how they are binarised."""
    define_data_dir()
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which images.")
    flags.DEFINE_integer("seed", 0, "Seed of binarisation and noise.", lower_bound=0)


def define_output(description, *suffixes, name="out"):
    """The flag --out, or another: a file whose name ends in one of `suffixes`, in an existing folder."""
    flags.DEFINE_string(name, None, description)
    flags.register_validator(
        name,
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


def _unknown_field(argv):
    """What is wrong with the first override of a field that no configuration has; None if there is none such."""
    from nvae_tf.config import Config, config_to_dict

    for argument in argv:
        name = argument.partition("=")[0].lstrip("-")
        root, *path = name.split(".")
        known = config_to_dict(Config())
        for field in path if root in ("config", "noconfig") else ():
            fields = known if isinstance(known, dict) else {}
            if field not in fields:
                return f"--{name}: expected one of {sorted(fields)}. Received: {field!r}"
            known = known[field]
    return None


def _parse_flags(argv):
    # ml_collections answers an unknown field or a missing file with a traceback; this does not.
    try:
        return app.parse_flags_with_usage(argv)
    except (KeyError, OSError) as error:
        sys.exit(f"{os.path.basename(argv[0])}: {_unknown_field(argv) or f'--config: {error}'}")


def run(main, arguments=None):
    """Runs a program: reads its flags, calls `main` and ends with one line where the input is wrong.

    A wrong folder, file or flag ends the program with its message and status 1; `--verbosity=1` shows the traceback.

    Args:
        main: function of no arguments, or of the list of the words on the command line that are not flags.
        arguments: what these words are, for the message when there are too few or too many, such as `"one run folder"`;
            None for a program that takes none. Default None.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only: TensorFlow's notices hide the program's messages

    def checked(argv):
        if flags.FLAGS.verbosity == 0:  # absl's default, with which TensorFlow logs every strategy and checkpoint
            logging.set_verbosity(logging.WARNING)
        if arguments is None and len(argv) > 1:
            raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
        try:
            main() if arguments is None else main(argv[1:])
        except Exception as error:
            from nvae_tf.runs.program import one_line

            message = one_line(error)
            if message is None or flags.FLAGS.verbosity > 0:
                raise
            sys.exit(f"{os.path.basename(argv[0])}: {message}")

    app.run(checked, flags_parser=_parse_flags)


def checked_config(flag):
    """The validated `Config` of a --config flag.

    Args:
        flag: what `config_flags.DEFINE_config_file` returned.

    Raises:
        ValueError, OSError: there is no configuration, or a field of it is wrong.
    """
    if flag.value is None:
        raise app.UsageError("--config: expected a configuration file such as configs/digits.py. Received: none")
    try:
        return flag.value.validate()
    except OSError as error:
        # Without overrides a configuration file that cannot be read shows only when a field is read.
        raise OSError(f"--config: {error}") from error
    except ValueError as error:
        raise ValueError(f"--config.{error}") from error


def define_devices():
    """Defines --strategy and --logical_cpus."""
    flags.DEFINE_enum("strategy", "auto", ["auto", "one", "mirrored"], "Devices: one, or all that are there.")
    flags.DEFINE_integer("logical_cpus", 0, "Split the CPU into so many devices, to try mirrored.", lower_bound=0)


def chosen_strategy():
    """The `tf.distribute.Strategy` that they ask for; to be called before anything else of TensorFlow."""
    from nvae_tf.training.distributed.strategy import make_strategy

    return make_strategy(flags.FLAGS.strategy, num_logical_cpus=flags.FLAGS.logical_cpus)


def define_server():
    """Defines --host, --model, --version, --label, --timeout, --max_message_mb and --tls with its files."""
    flags.DEFINE_string("host", "localhost", "Name or address of the server.")
    flags.DEFINE_string("model", "nvae", "Name of the model on the server.")
    flags.DEFINE_integer("version", None, "Version of the model; the latest if not given.", lower_bound=0)
    flags.DEFINE_string("label", None, "Label of a version, such as stable.")
    flags.DEFINE_float("timeout", 60.0, "Seconds for each request.")
    flags.DEFINE_integer("max_message_mb", 256, "MiB of the largest message to send or take.", 1, 2047)
    flags.DEFINE_bool("tls", False, "Encrypt; also for REST, where a proxy before the server does it.")
    flags.DEFINE_string("tls_root_certs", None, "PEM file of the authorities to trust; the system's if not given.")
    flags.DEFINE_string("tls_client_cert", None, "PEM file of this client's certificate.")
    flags.DEFINE_string("tls_client_key", None, "PEM file of its key.")
    flags.register_validator("timeout", lambda value: 0.0 < value < math.inf, message="expected a positive number")
    flags.mark_flags_as_mutual_exclusive(["version", "label"])


def connection():
    """Arguments of both transports that the flags give, but for the port; ValueError as `chosen_tls`."""
    values = flags.FLAGS
    return {"host": values.host, "tls": chosen_tls(), "max_message_bytes": values.max_message_mb * 2**20}


def chosen_tls():
    """`TLS` that the flags ask for, None without; ValueError where a file is missing or --tls is."""
    from nvae_tf.serving.protocol import TLS

    values = flags.FLAGS
    files = (values.tls_root_certs, values.tls_client_cert, values.tls_client_key)
    if values.tls:
        return TLS(*files)
    if any(files):
        raise ValueError("--tls: expected with --tls_root_certs, --tls_client_cert and --tls_client_key. Received: no")
    return None


def _is_temperature(text):
    try:
        return 0.0 < float(text) < math.inf
    except ValueError:
        return False


def define_temperatures(default, description):
    """Defines --temperature, a list of positive numbers.

    Args:
        default: list of texts.
        description: for --help.
    """
    flags.DEFINE_list("temperature", default, description)
    flags.register_validator(
        "temperature",
        lambda values: bool(values) and all(map(_is_temperature, values)),
        message="expected a positive, finite number, or several with commas between them",
    )
