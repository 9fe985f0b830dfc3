"""A loopback stand-in for TensorFlow Serving, with its protocol and its batching over the C++ runtime. For tests only.

python -m tests.serving.stand_in --base_path=saved_models/nvae --model_name=nvae

It prints {"grpc_port": ..., "rest_port": ...} once the model is loaded and warm, and serves until it is interrupted. It
imports TensorFlow, gRPC and the official protobufs but nothing of this project, so that an export is seen to need none.

Each part names the files of tensorflow/serving (under tensorflow_serving/) whose rules it follows and, as "Unsourced",
what it does where none was available. Only the definitions of messages (apis/, config/) could be compared.
"""

import argparse
import json
import os
import pathlib
import signal
import threading

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from tests.serving import stand_in_grpc, stand_in_rest
from tests.serving.stand_in_batching import BatchingParameters
from tests.serving.stand_in_versions import Versions


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base_path", required=True, help="folder with one folder a version")
    parser.add_argument("--model_name", default="nvae", help="name in requests")
    parser.add_argument("--grpc_port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--rest_port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--batching_parameters_file", help="default: batching_parameters.txt of the base path, if any")
    parser.add_argument("--model_config_file", help="default: models.config of the base path, if any")
    parser.add_argument("--poll_seconds", type=float, default=1, help="between two looks at the base path")
    return parser.parse_args()


def _file(given, arguments, name):
    default = pathlib.Path(arguments.base_path) / name
    return pathlib.Path(given) if given else default if default.exists() else None


def main():
    tf.get_logger().setLevel("ERROR")  # no deprecation warnings
    arguments = _arguments()
    batching = _file(arguments.batching_parameters_file, arguments, "batching_parameters.txt")
    config = _file(arguments.model_config_file, arguments, "models.config")
    batching = batching and BatchingParameters.read(batching)
    versions = Versions(arguments.model_name, pathlib.Path(arguments.base_path), batching, config)
    versions.poll()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    grpc_server, grpc_port = stand_in_grpc.serve(versions, arguments.grpc_port)
    rest_server, rest_port = stand_in_rest.serve(versions, arguments.rest_port)
    print(json.dumps({"grpc_port": grpc_port, "rest_port": rest_port}), flush=True)
    while not stop.wait(arguments.poll_seconds):
        versions.poll()
    grpc_server.stop(grace=1).wait()
    rest_server.shutdown()
    versions.close()
    os._exit(0)  # Python's own exit would take seconds to tear TensorFlow down


if __name__ == "__main__":
    main()
