"""Checks a SavedModel against the rules of TensorFlow Serving, as read from the sources of tensorflow/serving.

The rules only read the files. The last check runs the model in a separate process, as the server does.
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

from nvae_tf.export.saved_model.check import file_rules, graph_rules, server_rules
from nvae_tf.export.saved_model.check.contents import Advice, NotChecked, NotReadableError, read_saved_model

_MAX_FINDINGS = 5
_REPLAY = "nvae_tf.export.saved_model.check.replay"
# What must hold before a model is run at all.
_TO_LOAD = (*graph_rules.GRAPH_RULES, server_rules.warm_up)
_TO_PUBLISH = (
    *(file_rules.version_name, file_rules.card_signatures, file_rules.checksums),
    *(server_rules.batching_parameters, server_rules.models_config, server_rules.monitoring_config),
)
RULES = (*_TO_LOAD, *_TO_PUBLISH)


class RuleResult(NamedTuple):
    """The result of one rule."""

    name: str
    reason: str  # sentence that says why it is a rule
    status: str  # "passed", "warned", "failed" or "not checked"
    detail: str = ""  # the findings, why nothing was checked, or how long the run took

    @property
    def passed(self):
        return self.status != "failed"


def lint_saved_model(version_dir, published=True, execute=True, base_dir=None):
    """The `RuleResult`s of a SavedModel for each of `RULES` and, at the end, `executes`.

    Args:
        version_dir, published, base_dir: see `read_saved_model`, which raises ValueError for what is no SavedModel.
        execute: False leaves out the check that runs the model. That check is also left out if the graph or the warm-up
            file broke a rule. Default True.
    """
    model = read_saved_model(version_dir, published, base_dir)
    results = [_apply(rule, model) for rule in RULES]
    may_run = all(result.passed for result in results[: len(_TO_LOAD)])
    if execute and may_run:
        findings, seconds = executes(model)
        took = f"loaded in {seconds['load']:.1f} s, warmed up in {seconds['warm_up']:.1f} s" if seconds else ""
        outcome = _outcome(findings, took)
    else:
        outcome = "not checked", "not asked for" if may_run else "what it would run broke a rule"
    return [*results, RuleResult("executes", executes.__doc__, *outcome)]


def _apply(rule, model):
    try:
        outcome = _outcome(list(rule(model)))
    except NotChecked as error:
        outcome = "not checked", str(error)
    except NotReadableError as error:
        outcome = "failed", str(error)
    return RuleResult(rule.__name__, rule.__doc__, *outcome)


def _outcome(findings, detail=""):
    """Status and detail of a `RuleResult`; `detail` is what it says without findings."""
    if not findings:
        return "passed", detail
    if all(isinstance(finding, Advice) for finding in findings):
        return "warned", "; ".join(findings)
    more = [f"and {len(findings) - _MAX_FINDINGS} more"] if len(findings) > _MAX_FINDINGS else []
    return "failed", "; ".join([*findings[:_MAX_FINDINGS], *more])


def executes(model):
    """The server runs it like this: in a Session of the C++ runtime, with XLA disabled."""
    # Tensor cores of GPUs would round to ten bits (TensorFloat-32), far more than the answers may differ by.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    command = [sys.executable, "-m", _REPLAY, str(model.path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return [f"the process ended with {process.returncode}: {lines[0]}"], {}
    answer = json.loads(process.stdout.splitlines()[-1])
    return answer["findings"], answer.get("seconds", {})
