"""The client over TLS, with certificates that the test makes with the openssl program."""

import concurrent.futures
import pathlib
import ssl
import subprocess

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from nvae_tf.serving.client import Client
from nvae_tf.serving.grpc_transport import GrpcTransport
from nvae_tf.serving.protocol import TLS, ServerError
from nvae_tf.serving.rest_transport import RestTransport
from tests.serving import stand_in_grpc, stand_in_rest
from tests.serving.toy_model import ToyModel


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """{"server": (certificate, key), "client": ...}, paths of PEM files that each vouch for themselves."""
    folder, made = tmp_path_factory.mktemp("certificates"), {}
    for name in ("server", "client"):
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", key, "-out", certificate, "-days", "1", "-subj", f"/CN={name}"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True)
        made[name] = str(certificate), str(key)
    return made


@pytest.fixture(scope="module")
def ports(certificates):
    """{protocol: port} of a server that wants TLS and the client's certificate."""
    model, (certificate, key) = ToyModel(), certificates["server"]
    trusted = pathlib.Path(certificates["client"][0])
    content = [(pathlib.Path(key).read_bytes(), pathlib.Path(certificate).read_bytes())]
    credentials = grpc.ssl_server_credentials(content, trusted.read_bytes(), require_client_auth=True)
    grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    service = stand_in_grpc.PredictionService(model)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, grpc_server)
    grpc_port = grpc_server.add_secure_port("localhost:0", credentials)
    grpc_server.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    rest_server, rest_port = stand_in_rest.serve(model, 0)
    rest_server.socket = context.wrap_socket(rest_server.socket, server_side=True)
    yield {"grpc": grpc_port, "rest": rest_port}
    grpc_server.stop(None)
    rest_server.shutdown()
    rest_server.server_close()


@pytest.fixture(params=["grpc", "rest"])
def connect(request, ports):
    """Function that makes a client with a `TLS`."""
    clients = []

    def make(tls):
        kind = {"grpc": GrpcTransport, "rest": RestTransport}[request.param]
        clients.append(Client(kind("localhost", ports[request.param], tls), "toy", timeout_seconds=10, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_client_and_server_trust_each_other(connect, certificates):
    client = connect(TLS(certificates["server"][0], *certificates["client"]))
    assert client.sample([1], 1.0)["image"].shape == (1, 6, 6, 1)


@pytest.mark.parametrize("case", ["no encryption", "unknown server", "no client certificate"])
def test_untrusted_peers_are_refused(connect, certificates, monkeypatch, case):
    # The environment's authorities do not replace those that were given.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates["server"][0])
    tls = {
        "no encryption": None,
        "unknown server": TLS(certificates["client"][0], *certificates["client"]),
        "no client certificate": TLS(certificates["server"][0]),
    }[case]
    with pytest.raises(ServerError, match="check host, port and TLS") as error:
        connect(tls).metadata()
    assert error.value.code in ("UNAVAILABLE", "UNIMPLEMENTED")


def test_a_certificate_needs_its_key():
    with pytest.raises(ValueError, match="client_cert, client_key: expected both or neither. Received: a.pem, None"):
        TLS(None, "a.pem")
