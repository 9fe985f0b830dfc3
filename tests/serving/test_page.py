"""The requests on saved_models/README.md, as they stand there, against the stand-in."""

import base64
import json
import pathlib
import re
import shutil
import subprocess

import PIL.Image
import pytest

from nvae_tf.serving.client import Client
from nvae_tf.serving.grpc_transport import GrpcTransport

_PAGE = (pathlib.Path(__file__).resolve().parents[2] / "saved_models" / "README.md").read_text()
# Every answer on a line of its own.
_CURL = 'set -eo pipefail; curl() { command curl "$@"; echo; }\n'
_PATHS = {"": {}, "/versions/1": {"version": 1}, "/labels/stable": {"label": "stable"}}


def _blocks(language, word):
    return [block for block in re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL) if word in block]


def _run(stand_in, folder, *command):
    command = [part.replace("localhost:8501", f"127.0.0.1:{stand_in.rest_port}") for part in command]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def connect(stand_in):
    """Function that makes a client of gRPC for a version or label."""
    clients = []

    def make(**which):
        clients.append(Client(GrpcTransport("127.0.0.1", stand_in.grpc_port), stand_in.name, **which))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "jq"))), reason="no bash, curl or jq")
@pytest.mark.parametrize("path", _PATHS)
def test_curl_asks_every_signature(stand_in, connect, tmp_path, path):
    for name in "ab":
        PIL.Image.effect_noise((8, 8), 50).save(tmp_path / f"{name}.png")
    text = "".join(_blocks("", "curl")).replace("nvae:predict", f"nvae{path}:predict")
    printed = _run(stand_in, tmp_path, "bash", "-c", _CURL + text)
    status, metadata, *answers = [json.loads(line) for line in printed.splitlines()]
    assert status["model_version_status"][0]["state"] == "AVAILABLE" and metadata["model_spec"]["name"] == "nvae"
    client = connect(**_PATHS[path])
    signatures = client.metadata().signatures
    asked = re.findall(r'signature_name"?: "(\w+)"', text)
    assert {*asked, "serving_default"} == set(signatures)
    for name in ("encode", "sample"):  # whose answers are kept in files
        answers.insert(3 + asked.index(name), json.loads((tmp_path / f"{name}d.json").read_text()))
    for name, answer in zip(["sample"] * 3 + asked, answers, strict=True):
        given = answer["predictions"][0] if "predictions" in answer else answer["outputs"]
        only = len(signatures[name].outputs) == 1
        assert only or set(given) == set(signatures[name].outputs), name
    png = client.sample([1], 0.7)["png_bytes"][0]
    assert [base64.b64decode(answer["predictions"][0]["png_bytes"]["b64"]) for answer in answers[:3]] == [png] * 3
    assert (tmp_path / "sample.png").read_bytes() == client.sample([1, 2], 0.7)["png_bytes"][0]


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_javascript_keeps_all_digits_of_a_seed(stand_in, connect, tmp_path):
    (block,) = _blocks("js", "fetch")
    printed = _run(stand_in, tmp_path, "node", "--input-type=module", "-e", f"{block}\nconsole.log(png)")
    assert base64.b64decode(printed) == connect().sample([2**53 + 1], 0.7)["png_bytes"][0]
