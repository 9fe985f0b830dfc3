"""An export, the C++ loader behind the protocol and the checks of a server, end to end."""

import ast
import pathlib
import sys

import pytest

from nvae_tf.serving.card import read_card
from nvae_tf.serving.check.conformance import Target, basic_checks, run_check
from nvae_tf.serving.check.load import concurrency_checks
from nvae_tf.serving.check.refusals import refusal_checks
from nvae_tf.serving.grpc_transport import GrpcTransport
from nvae_tf.serving.protocol import ModelSpec
from nvae_tf.serving.rest_transport import RestTransport


@pytest.fixture(scope="module")
def target(stand_in, tiny_base):
    transports = {
        "grpc": GrpcTransport("127.0.0.1", stand_in.grpc_port),
        "rest": RestTransport("127.0.0.1", stand_in.rest_port),
    }
    card = read_card(tiny_base / "1" / "assets.extra" / "model.json")
    yield Target(transports, ModelSpec(stand_in.name, label="stable"), 60, card)
    for transport in transports.values():
        transport.close()


@pytest.mark.parametrize(
    "checks", [basic_checks, concurrency_checks, refusal_checks], ids=lambda checks: checks.__name__
)
def test_every_check_passes(target, checks):
    outcomes = [run_check(check) for check in checks(target)]
    assert outcomes
    assert not [outcome for outcome in outcomes if not outcome.passed]


def test_it_imports_nothing_of_the_project():
    allowed = {"tensorflow", "tensorflow_serving", "google", "grpc", "numpy"} | sys.stdlib_module_names
    files = sorted(pathlib.Path(__file__).parent.glob("stand_in*.py"))
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names] if node.module == "tests.serving" else [node.module]
                imported |= {name.removeprefix("tests.serving.") for name in names}
    assert "tensorflow" in imported
    assert {name.partition(".")[0] for name in imported} <= allowed | {file.stem for file in files}
