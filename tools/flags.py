"""Flags that several programs share, and how every program starts and ends.

Programs import modules that import TensorFlow, which takes seconds, where they need them: a wrong flag comes first.
"""

import functools
import math
import os
import pathlib
import re
import runpy
import signal
import sys

from absl import app, flags, logging

from nvae_tf.files import check_writable

# The program that calls a function below lists the flags in its --help.
flags.disclaim_key_flags()

_SAVED_MODELS = pathlib.Path(__file__).resolve().parents[1] / "saved_models"
# The model that ships with the programs, and the temperature at which it is meant to be drawn from.
SHIPPED_RUN, SHIPPED_TEMPERATURE = _SAVED_MODELS / "mnist", 0.7


class _PathParser(flags.ArgumentParser):
    def parse(self, argument):
        # The shell does not expand `~` behind `=`, and leaves nothing of a variable that is not set.
        path = os.path.expanduser(argument)
        if not path or path.startswith("~"):
            raise ValueError("expected a path; ~ and ~USER are home folders, ./~ is not")
        return path


def define_path(name, default, description, required=False):
    """Defines a flag whose value is the path of a file or folder: `~` is expanded, and the empty string refused."""
    flags.DEFINE(_PathParser(), name, default, description, required=required)


def define_paths(name, description):
    """Defines a flag like `define_path` that may be given several times; its value is a list of the paths, or None."""
    flags.DEFINE_multi(_PathParser(), flags.ArgumentSerializer(), name, None, description)


def define_file(name, description, required=False):
    """Defines a flag whose value is the path of an existing file."""
    define_path(name, None, description, required)
    flags.register_validator(
        name, lambda path: path is None or os.path.isfile(path), message="expected an existing file"
    )


def define_run(required=True):
    """Defines --run_dir, --step and --ema, which choose a run and a model of it."""
    define_path("run_dir", None, "Folder of the run: config.json and checkpoints/.", required)
    define_checkpoint()
    flags.register_validator(
        "run_dir",
        lambda path: path is None or os.path.isfile(os.path.join(path, "config.json")),
        message="expected a run folder with config.json",
    )


def use_shipped_run():
    """Without --run_dir, chooses the model that ships with the programs, with its temperature, and says so.

    Raises `ValueError` if it is not there.
    """
    values = flags.FLAGS
    if values.run_dir is not None:
        return
    if not (SHIPPED_RUN / "config.json").is_file():
        raise ValueError(f"--run_dir: expected a run folder, because {SHIPPED_RUN} is not there. Received: none")
    chosen = {"run_dir": SHIPPED_RUN}
    if not ("images" in values and values.images):  # whose latents depend on no temperature
        given = values.temperature if values["temperature"].present else SHIPPED_TEMPERATURE
        chosen |= {"temperature": SHIPPED_TEMPERATURE}
        if {float(value) for value in (given if isinstance(given, list) else [given])} == {SHIPPED_TEMPERATURE}:
            chosen |= {"bn_temperature": SHIPPED_TEMPERATURE}  # its batch norm is readjusted to this one only
    chosen = {name: value for name, value in chosen.items() if not values[name].present}
    for name, value in chosen.items():
        values[name].parse(str(value))
    print("--run_dir is not given:", *(f"--{name}={value}" for name, value in chosen.items()), flush=True)


def results_folder(run_dir):
    """Folder for results about a run: its own; for a model that ships runs/NAME or, if that is a run, NAME_shipped."""
    folder = pathlib.Path(run_dir).resolve()
    if folder.parent != _SAVED_MODELS:
        return pathlib.Path(run_dir)
    results = pathlib.Path("runs", folder.name)
    return results.with_name(f"{folder.name}_shipped") if (results / "config.json").exists() else results


def define_checkpoint():
    """Defines --step and --ema, which choose a model of a run."""
    flags.DEFINE_string("step", None, "Step of the checkpoint, or best; the latest if not given.")
    flags.DEFINE_bool("ema", True, "Use the moving average of the weights if the run keeps one.")


def define_statistics():
    """Defines --bn_temperature."""
    flags.DEFINE_float(
        "bn_temperature", None, "Use the batch-norm statistics that readjust_bn.py made at this temperature."
    )


def define_data_dir(prepares=True):
    """Defines --data_dir, --accept_changed_data and, for a program that prepares large data sets, --cache_dir."""
    define_path("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
    flags.register_validator(
        "data_dir", lambda path: path is None or os.path.isdir(path), message="expected an existing folder"
    )
    if prepares:
        define_path(
            "cache_dir",
            None,
            "Folder for prepared copies of data sets larger than data.cache_gib; $XDG_CACHE_HOME/nvae_tf if not given, "
            "or ~/.cache/nvae_tf.",
        )
    flags.DEFINE_bool(
        "accept_changed_data",
        False,
        "Go on though the images are not those that the run was trained on. Held-out figures can then be too good, "
        "because images that are held out now may have been trained on, and do not compare with earlier ones.",
    )


def define_images(prepares=True):
    """Defines the flags of `define_data_dir`, --split and --seed: which images to use, and how they are binarised."""
    define_data_dir(prepares)
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Split of the images.")
    flags.DEFINE_integer("seed", 0, "Seed of binarisation and noise.", lower_bound=0)


def run_images(config, max_images=0):
    """The `ImageSet` of --split for the `Config` of --run_dir, compared with the images that the run was trained on."""
    from nvae_tf.runs.data import load_images
    from nvae_tf.runs.data_record import DataRecord

    values = flags.FLAGS
    record = DataRecord(values.run_dir, values.accept_changed_data)
    return load_images(config, values.data_dir, values.split, max_images, values.cache_dir, record)


def define_output(description, *suffixes, name="out"):
    """Defines --out, or another name: a file whose name ends in one of `suffixes`, in an existing folder.

    Returns:
        Function to call before any work: (default=None, optional=False) to the path of the file. Without the flag it is
        `default` in `results_folder`, which is created, or None. OSError if it cannot be written; if it is optional and
        the flag not given, this is only said, and the path is None.
    """
    define_path(name, None, description)
    flags.register_validator(
        name,
        lambda path: path is None or (path.endswith(suffixes) and os.path.isdir(os.path.dirname(path) or ".")),
        message=f"expected a name ending in {' or '.join(suffixes)} in an existing folder",
    )
    return functools.partial(_output_path, name)


def _output_path(name, default=None, optional=False):
    """What the function that `define_output` returns does."""
    given = flags.FLAGS[name].value
    if not given and not default:
        return None
    path = pathlib.Path(given or results_folder(flags.FLAGS.run_dir) / default)
    if path.is_dir():
        raise OSError(f"{path}: expected a file. Received: a folder")
    try:
        check_writable(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if given or not optional:
            raise
        print(f"warning: {error}; the result is only printed, --{name}=FILE saves it", file=sys.stderr, flush=True)
        return None
    return path


def define_temperature(description):
    """Defines --temperature."""
    flags.DEFINE_float("temperature", 1.0, description)
    flags.register_validator(
        "temperature", lambda value: 0.0 < value < math.inf, message="expected a positive, finite number"
    )


def define_starts(required=True):
    """Defines --images and --seeds, of which one must be given if `required`, and never both."""
    flags.DEFINE_list("images", None, "Numbers of images in the split, counted from 0.")
    flags.DEFINE_list("seeds", None, "Seeds of prior samples; seed S gives the image of sample.py --seed=S --num=1.")
    flags.mark_flags_as_mutual_exclusive(["images", "seeds"], required=required)
    for name in ("images", "seeds"):
        flags.register_validator(
            name,
            lambda texts: texts is None or (bool(texts) and all(map(_is_number, texts))),
            message="expected whole numbers from 0, separated by commas",
        )


def _is_number(text):
    return text.isascii() and text.isdigit() and int(text) < 2**36


def _unknown_field(argv):
    """Message about the first override of an unknown configuration field; None if there is none."""
    from nvae_tf.config import flat_dict

    file = re.search("\0--?config[=\0]([^\0]*)", "\0".join(argv))
    known = flat_dict(runpy.run_path(file[1])["get_config"]())
    for argument in argv:
        flag = argument.partition("=")[0].lstrip("-")
        root, _, field = flag.partition(".")
        if field and root in ("config", "noconfig") and field not in known:
            if field == "model.family":  # which no file of NVAE has
                return f"--{flag}: expected a --config of that family instead. Received: {file[1]}, which is of NVAE"
            part = field.partition(".")[0]
            names = sorted(name.partition(".")[2] for name in known if name.startswith(f"{part}."))
            if names:
                return f"--{flag}: expected one of {names}. Received: {field.partition('.')[2]!r}"
            return f"--{flag}: expected one of {sorted({name.partition('.')[0] for name in known})}. Received: {part!r}"
    return None


def _parse_flags(argv):
    # For --config, a flag of ml_collections, and for words.
    argv = [re.sub("^(--?config=)?(~.*)", lambda m: (m[1] or "") + os.path.expanduser(m[2]), word) for word in argv]
    # For an unknown field or a missing file ml_collections would raise a traceback.
    try:
        return app.parse_flags_with_usage(argv)
    except OSError as error:
        message = f"--config: {error}"
    except KeyError as error:
        message = _unknown_field(argv) or f"--config: {error}"
    sys.exit(f"{os.path.basename(argv[0])}: {message}")


def run(main, takes_words=False, interrupted="interrupted", status=128 + signal.SIGINT):
    """Runs a program: parses its flags and calls `main`.

    A wrong folder, file or flag ends the program with a one-line message and status 1; `--verbosity=1` shows the
    traceback. Ctrl-C ends it with one line.

    Args:
        main: function without arguments.
        takes_words: call `main` with the list of the words on the command line that are not flags, which are otherwise
            refused. Default False.
        interrupted: what that line says. Default "interrupted".
        status: status of the program after Ctrl-C. Default 130, as shells expect.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

    def checked(argv):
        if flags.FLAGS.verbosity == 0:  # absl's default, with which TensorFlow logs every strategy and checkpoint
            logging.set_verbosity(logging.WARNING)
        if not takes_words and len(argv) > 1:
            raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
        if "" in argv:
            raise app.UsageError("expected words. Received: an empty one")
        try:
            main(argv[1:]) if takes_words else main()
        except Exception as error:
            from nvae_tf.runs.program import one_line

            message = one_line(error)
            if message is None or flags.FLAGS.verbosity > 0:
                raise
            sys.exit(f"{os.path.basename(argv[0])}: {message}")

    try:
        app.run(checked, flags_parser=_parse_flags)
    except KeyboardInterrupt:
        # In one write: print could let a line of progress in before the newline.
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {interrupted}\n")
        sys.stdout.flush()
        os._exit(status)  # a normal exit would wait for threads and other processes


def checked_config(flag):
    """The validated `Config` of the flag that `config_flags.DEFINE_config_file` returned.

    Raises:
        ValueError, OSError: a field is wrong, or the file cannot be read.
    """
    if flag.value is None:
        raise app.UsageError("--config: expected a configuration file such as configs/digits.py. Received: none")
    try:
        return flag.value.validate()
    except OSError as error:
        # Without overrides, a file that cannot be read is noticed only here.
        raise OSError(f"--config: {error}") from error
    except ValueError as error:
        raise ValueError(f"--config.{error}") from error


def define_devices(*strategies, default="auto"):
    """Defines --logical_cpus and --strategy, with `strategies` besides auto, one and mirrored."""
    flags.DEFINE_enum(
        "strategy",
        default,
        ["auto", "one", "mirrored", *strategies],
        "Devices: one, all of this machine (mirrored), or those of every worker; auto uses all that are available.",
    )
    flags.DEFINE_integer("logical_cpus", 0, "Number of devices to split the CPU into, to test mirrored.", lower_bound=0)


def chosen_strategy(workers=()):
    """The `tf.distribute.Strategy` for these flags; call it before any use of TensorFlow except `find_workers`."""
    from nvae_tf.training.distributed.strategy import make_strategy

    return make_strategy(flags.FLAGS.strategy, workers, flags.FLAGS.logical_cpus)


def define_server():
    """Defines --host, --model, --version, --label, --timeout, --max_message_mb and --tls with its files."""
    flags.DEFINE_string("host", "localhost", "Name or address of the server.")
    flags.DEFINE_string("model", "nvae", "Name of the model on the server.")
    flags.DEFINE_integer("version", None, "Version of the model; the latest if not given.", lower_bound=0)
    flags.DEFINE_string("label", None, "Label of a version, such as stable.")
    flags.DEFINE_float("timeout", 60.0, "Time limit of each request in seconds.")
    flags.DEFINE_integer("max_message_mb", 256, "Largest message to send or receive, in MiB.", 1, 2047)
    flags.DEFINE_bool("tls", False, "Encrypt the connection; REST needs a proxy in front of the server for this.")
    define_path("tls_root_certs", None, "PEM file of the authorities to trust; the system's if not given.")
    define_path("tls_client_cert", None, "PEM file of this client's certificate.")
    define_path("tls_client_key", None, "PEM file of its key.")
    flags.register_validator(
        "host",
        lambda host: host and "/" not in host and host.count(":") != 1,
        message="expected a name or address, without http:// or a port",
    )
    flags.register_validator("timeout", lambda value: 0.0 < value < math.inf, message="expected a positive number")
    flags.mark_flags_as_mutual_exclusive(["version", "label"])


def make_transport(protocol, port):
    """`GrpcTransport` ("grpc") or `RestTransport`; port None is the usual. ValueError if --tls and its files differ."""
    from nvae_tf.serving.protocol import TLS

    if protocol == "grpc":
        from nvae_tf.serving.grpc_transport import GrpcTransport as Transport
    else:
        from nvae_tf.serving.rest_transport import RestTransport as Transport
    values = flags.FLAGS
    files = (values.tls_root_certs, values.tls_client_cert, values.tls_client_key)
    if any(files) and not values.tls:
        raise ValueError("--tls: expected with --tls_root_certs, --tls_client_cert and --tls_client_key. Received: no")
    tls = TLS(*files) if values.tls else None
    given = {"port": port} if port else {}
    return Transport(values.host, tls=tls, max_message_bytes=values.max_message_mb * 2**20, **given)


def _is_temperature(text):
    try:
        return 0.0 < float(text) < math.inf
    except ValueError:
        return False


def define_temperatures(
    default="1.0",
    description="Factor of every prior's scale: one number, or one for each scale or each group, coarsest first.",
):
    """Defines --temperature, a list of positive numbers."""
    flags.DEFINE_list("temperature", default, description)
    flags.register_validator(
        "temperature",
        lambda values: bool(values) and all(map(_is_temperature, values)),
        message="expected a positive, finite number, or several separated by commas",
    )
