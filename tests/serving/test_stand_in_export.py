"""An export, the C++ loader behind the protocol and the checks of a server, end to end."""

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
    yield Target(transports, ModelSpec(stand_in.name), 60, card)
    for transport in transports.values():
        transport.close()


@pytest.mark.parametrize(
    "checks", [basic_checks, concurrency_checks, refusal_checks], ids=lambda checks: checks.__name__
)
def test_every_check_passes(target, checks):
    outcomes = [run_check(check) for check in checks(target)]
    assert outcomes
    assert not [outcome for outcome in outcomes if not outcome.passed]
