r"""Checks that a running server meets the TensorFlow Serving contract with an exported model, and how fast it answers.

    python tools/check_server.py --grpc_port=8500 --rest_port=8501 --card=saved_models/nvae
    python tools/check_server.py --host=gpu-7 --grpc_port=8500 --concurrency=1,16,64 --load_seconds=20 --json=load.json

It checks gRPC, REST or both: status and metadata; with --card, every signature against the golden answers of the
version that answers; that a seed gives the same image in any batch; the right error codes for wrong requests; correct
requests beside wrong ones; and measures latencies and images per second. Each check prints a line. The exit status is 1
if any fails.
"""

import math
import sys

from absl import flags

from nvae_tf.files import write_json
from tools.flags import define_output, define_path, define_server, make_transport, run

FLAGS = flags.FLAGS

define_server()
flags.DEFINE_integer("grpc_port", None, "Port of gRPC, usually 8500; gRPC is not checked without it.", 1, 65535)
flags.DEFINE_integer("rest_port", None, "Port of REST, usually 8501; REST is not checked without it.", 1, 65535)
define_path(
    "card",
    None,
    "Folder of the versions, in which the card of the version that answers is found, or a card: "
    "assets.extra/model.json, beside golden.npz. Without it only sample is checked.",
)
flags.DEFINE_list("concurrency", ["1", "4", "16"], "Numbers of clients at once, a load check for each; empty for none.")
flags.DEFINE_float("load_seconds", 5.0, "Duration of each load check in seconds.")
flags.DEFINE_integer("rows", 1, "Images per request in the load checks.", lower_bound=1)
_JSON = define_output("File to which the results are also written.", ".json", name="json")

flags.register_validator(
    "concurrency",
    lambda texts: all(text.isascii() and text.isdigit() and 1 <= int(text) <= 1024 for text in texts),
    message="expected whole numbers from 1 to 1024 separated by commas",
)
flags.register_validator(
    "load_seconds",
    lambda value: 0.0 < value < math.inf,
    message="expected a positive number; --concurrency= leaves the load checks out",
)


@flags.multi_flags_validator(["grpc_port", "rest_port"], message="expected --grpc_port, --rest_port or both")
def _has_port(values):
    return any(port is not None for port in values.values())


def make_target():
    """The `Target` that the flags describe, without its card."""
    from nvae_tf.serving.check.conformance import Target
    from nvae_tf.serving.protocol import ModelSpec

    ports = {"grpc": FLAGS.grpc_port, "rest": FLAGS.rest_port}
    transports = {protocol: make_transport(protocol, port) for protocol, port in ports.items() if port}
    return Target(transports, ModelSpec(FLAGS.model, FLAGS.version, FLAGS.label), FLAGS.timeout)


def run_checks(target, figures):
    """Returns the `Outcome`s of all checks, each printed when done; appends the load measurements to `figures`."""
    from nvae_tf.serving.check.conformance import basic_checks, run_check
    from nvae_tf.serving.check.load import concurrency_checks, load_checks
    from nvae_tf.serving.check.refusals import refusal_checks

    outcomes = []

    def run_all(checks):
        for check in checks:
            outcome = run_check(check)
            outcomes.append(outcome)
            print(f"{'PASS' if outcome.passed else 'FAIL'}  {outcome.name}: {outcome.reason}", flush=True)

    run_all(basic_checks(target))
    if not any(outcome.passed for outcome in outcomes if outcome.name.endswith("default signature is sample")):
        print("sample gets no answer: nothing else is checked", flush=True)
        return outcomes
    run_all(concurrency_checks(target))
    run_all(refusal_checks(target))
    concurrencies = [int(text) for text in FLAGS.concurrency]
    run_all(load_checks(target, concurrencies, FLAGS.load_seconds, FLAGS.rows, figures))
    return outcomes


def main():
    path = _JSON()
    from nvae_tf.serving.card import find_card, read_card

    target, figures, card = make_target(), [], None
    version = target.version()
    if version is not None:
        if FLAGS.card:
            card = str(find_card(FLAGS.card, version))
            target.card = read_card(card)
        compared = f"compared with {card}" if card else "without --card: only sample is asked, and not compared"
        print(f"version {version} answers, {compared}", flush=True)
    outcomes = run_checks(target, figures)
    failed = sum(not outcome.passed for outcome in outcomes)
    if path:
        results = {"server": FLAGS.host, "model": str(target.model), "version": version, "card": card, "failed": failed}
        results |= {"checks": [outcome._asdict() for outcome in outcomes], "load": figures}
        write_json(path, results)
        print(f"written: {path}")
    if failed and version not in (None, later := target.version()):
        print(f"version {version} answered at first, and {later} now: check again")
    if failed:
        sys.exit(f"check_server.py: {failed} of {len(outcomes)} checks failed")
    print(f"meets the TensorFlow Serving contract in all {len(outcomes)} checks")


if __name__ == "__main__":
    run(main)
