"""The rules that TensorFlow Serving holds a SavedModel to, each with its reason, and the check of a folder by them.

Read from the sources of tensorflow/serving. Nothing but the last rule runs the model; that one runs it in a process of
its own, as the server does.
"""

import collections.abc
import dataclasses

from nvae_tf.export.saved_model.check import file_rules as files
from nvae_tf.export.saved_model.check import graph_rules as graph
from nvae_tf.export.saved_model.check import server_rules as serving
from nvae_tf.export.saved_model.check.contents import read_saved_model

_MAX_FINDINGS = 5


@dataclasses.dataclass(frozen=True)
class Check:
    """A rule.

    Attributes:
        name: of the rule.
        reason: why it is one.
        function: from a `SavedModel` to an iterable of findings, texts that name tensor, signature, operation or file.
        advice: True where findings are worth knowing and break nothing.
    """

    name: str
    reason: str
    function: collections.abc.Callable
    advice: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a check.

    Attributes:
        name, reason: of the check.
        status: "passed", "failed", "note" (advice) or "not checked".
        detail: the findings, why nothing was checked, or what the run took.
    """

    name: str
    reason: str
    status: str
    detail: str = ""

    @property
    def passed(self):
        return self.status != "failed"


def _reply_size(model):
    sizes = serving.allowed_batch_sizes(model)
    return graph.reply_size(model, max(sizes)) if sizes else ()


# What a model must keep to be run at all.
_TO_RUN = (
    Check("variables", "the server does not load a version whose variables are missing or damaged", files.variables),
    Check("assets", "a file outside the version folder is not there on another machine", files.assets),
    Check("serve_tag", "the server loads the graph with the tag serve", graph.serve_tag),
    Check("serving_default", "requests that name no signature get this one", graph.default_signature),
    Check("method_name", "Predict runs signatures of this method", graph.method_name),
    Check("inputs_outputs", "a request needs at least one input, an answer one output", graph.has_inputs),
    Check("plain_names", "names are fields of JSON and of client code", graph.plain_names),
    Check("tensors", "a signature is run by feeding and fetching dense tensors of the graph", graph.tensors_exist),
    Check("no_scalars", "the server concatenates and splits rows, which a scalar does not have", graph.no_scalars),
    Check("batch_dimension", "the server merges requests along dimension 0, in any number", graph.batch_dimension),
    Check("no_half", "REST answers no float16 or bfloat16, and processors are slow with them", graph.no_half),
    Check("bytes_names", "REST answers strings in base64 only where the name ends in _bytes", graph.bytes_names),
    Check("known_operations", "an unknown operation stops the load", graph.known_operations),
    Check("cpu_kernels", "a server without that device cannot run the operation", graph.cpu_kernels),
    Check("devices", "a fixed device need not be there on the server", graph.devices),
    Check("stateless_random", "a seed must give the same answer in any batch and process", graph.stateless_random),
    Check("no_python", "the server has no Python", graph.no_python),
    Check("no_xla", "the server has XLA compilation disabled", graph.no_xla),
    Check("no_training", "training changes the model, or its answers with the rest of the batch", graph.no_training),
    Check("no_state", "an answer must not depend on the requests before, nor start again at a reload", graph.no_state),
    Check("float32_variables", "other floats are slow, or not run at all, on processors", graph.float32_variables),
    Check("float32_operations", "half types are slow on processors, and lose digits", graph.float32_operations),
    Check("float64", "float64 takes twice the memory and time", graph.float64, advice=True),
    Check("reply_size", "gRPC clients receive 4 MB at most unless they raise it", _reply_size, advice=True),
    Check("warmup_file", "without it first requests are slow; a wrong one stops the load", serving.warmup_file),
    Check("warmup_requests", "a request that fails stops the load", serving.warmup_requests),
    Check("warmup_coverage", "what was not run at the load is slow at its first request", serving.warmup_coverage),
)
_TO_PUBLISH = (
    Check("version_name", "the server skips folders with other names", files.version_name),
    Check("leftovers", "what an interrupted write left is published with the version", files.leftovers),
    Check("model_card", "clients read the signatures in the card", files.model_card),
    Check("checksums", "a file that was changed or cut by a copy is not what was checked", files.checksums),
    Check("batching_parameters", "the server does not start with a wrong file", serving.batching_parameters),
    Check("models_config", "the server does not start with a wrong file", serving.models_config),
    Check("monitoring_config", "the server does not start with a wrong file", serving.monitoring_config),
)
CHECKS = (*_TO_RUN, *_TO_PUBLISH)
# Run apart from the others: its function gives the findings and what loading and warming up took.
EXECUTES = Check("executes", "this is how the server runs it: C++ loader and Session, XLA disabled", serving.executes)


def lint(version_dir, published=True, execute=True):
    """Checks a SavedModel by every rule.

    Args:
        version_dir: folder with saved_model.pb; the server's configuration files are looked for beside it.
        published: False for a folder that has yet to get its version number as name.
        execute: False leaves out the check that runs the model. It is also left out where the graph, its variables or
            the warm-up file failed one.

    Returns:
        List of `Result`, one for each rule.

    Raises:
        NotASavedModelError: there is no saved_model.pb that can be read.
        ImportError: tensorflow-serving-api is not installed.
    """
    model = read_saved_model(version_dir, published)
    results = [_run(check, model) for check in CHECKS]
    may_run = all(result.passed for result in results[: len(_TO_RUN)])
    if execute and may_run:
        findings, seconds = EXECUTES.function(model)
        took = f"loaded in {seconds['load']:.1f} s, warmed up in {seconds['warm_up']:.1f} s" if seconds else ""
        return [*results, _result(EXECUTES, findings, took)]
    detail = "not asked for" if may_run else "what it would run failed a check"
    return [*results, Result(EXECUTES.name, EXECUTES.reason, "not checked", detail)]


def _run(check, model):
    try:
        findings = list(check.function(model))
    except files.NotChecked as error:
        return Result(check.name, check.reason, "not checked", str(error))
    return _result(check, findings)


def _result(check, findings, detail=""):
    if not findings:
        return Result(check.name, check.reason, "passed", detail)
    shown = "; ".join(findings[:_MAX_FINDINGS])
    more = f"; and {len(findings) - _MAX_FINDINGS} more" if len(findings) > _MAX_FINDINGS else ""
    return Result(check.name, check.reason, "note" if check.advice else "failed", shown + more)
