"""The flags that say which model of which server a program talks to."""

import math

from absl import flags

# The program that calls the function below lists the flags in its --help.
flags.disclaim_key_flags()


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
