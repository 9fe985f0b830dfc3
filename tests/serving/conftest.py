"""Servers for the tests: the stand-in in a separate process, and its services with the toy model in this one."""

import json
import pathlib
import re
import signal
import time
import urllib.request

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from nvae_tf.export.saved_model.server_files import write_server_files
from nvae_tf.serving.card import read_card
from nvae_tf.serving.check.conformance import Target
from nvae_tf.serving.grpc_transport import GrpcTransport
from nvae_tf.serving.protocol import ModelSpec
from nvae_tf.serving.rest_transport import RestTransport
from tests.processes import Program
from tests.serving.toy_model import EXAMPLES, write_card

_PROGRAM = pathlib.Path(__file__).with_name("stand_in.py")


class StandIn:
    """A running stand-in, started with `flags` such as "--poll_seconds=0.05", and a client of it."""

    name = "nvae"

    def __init__(self, base_path, *flags):
        self.base_path = pathlib.Path(base_path)
        self.process = Program(_PROGRAM, f"--base_path={base_path}", f"--model_name={self.name}", *flags)
        self.grpc_port, self.rest_port = json.loads(self.process.read_to("grpc_port")[-1]).values()
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def predict(self, signature, inputs, output_filter=(), version=None, label=""):
        """{output: array}; raises grpc.RpcError."""
        request = predict_pb2.PredictRequest(output_filter=output_filter)
        request.model_spec.name, request.model_spec.signature_name = self.name, signature
        request.model_spec.version_label = label
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self.prediction.Predict(request, timeout=60)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def status(self):
        """The entries of the status, one for each version."""
        url = f"http://127.0.0.1:{self.rest_port}/v1/models/{self.name}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["model_version_status"]

    def publish(self, number, write):
        """Calls a function to write a version under a name that the server skips, and then renames it."""
        aside = self.base_path / f"{number}.writing"
        write(aside)
        aside.rename(self.base_path / str(number))

    def wait_for(self, states):
        """Waits until the status is {version: state}."""
        deadline = time.monotonic() + 30
        while (received := self.states()) != states:
            assert time.monotonic() < deadline, f"expected {states}. Received: {received}"
            time.sleep(0.02)

    def states(self):
        """{version: state} of the status."""
        return {int(entry["version"]): entry["state"] for entry in self.status()}

    def close(self):
        """Ends the process, which must not fail."""
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0


@pytest.fixture(scope="module")
def start_stand_in():
    """Function that starts a `StandIn`, which ends with the module's tests."""
    started = []

    def start(base_path, *flags):
        started.append(StandIn(base_path, *flags))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def stand_in(tiny_base, tmp_path_factory):
    """`StandIn` that serves `tiny_base` as `stable` and merges up to 16 rows. Shared: no test may stop it."""
    folder = tmp_path_factory.mktemp("server_files")
    write_server_files(folder, StandIn.name, [1, 4, 16])
    config = folder / "models.config"
    config.write_text(re.sub(r"# (version_labels.*stable)", r"\1", config.read_text()))
    batching = f"--batching_parameters_file={folder / 'batching_parameters.txt'}"
    server = StandIn(tiny_base, batching, f"--model_config_file={config}")
    yield server
    server.close()


@pytest.fixture
def model(served):
    return served[0]


@pytest.fixture
def connect(served):
    """Function that returns the `Target`, with a `Card` or without."""
    ports = served[1]
    transports = {"grpc": GrpcTransport("127.0.0.1", ports["grpc"]), "rest": RestTransport("127.0.0.1", ports["rest"])}
    yield lambda card=None: Target(transports, ModelSpec("toy"), 60, card)
    for transport in transports.values():
        transport.close()


@pytest.fixture(scope="module")
def card(served, tmp_path_factory):
    """`Card` of the toy model."""
    return read_card(write_card(tmp_path_factory.mktemp("card"), served[0], EXAMPLES))
