"""A broken file among those that the server reads beside the graph is caught by the one rule about it."""

import functools
import importlib
import os
import sys

import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2

from nvae_tf.export.saved_model.check import server_rules
from nvae_tf.export.saved_model.check.contents import Advice, read_saved_model
from tests.export.saved_model.check.good_saved_model import (
    WARMUP,
    assert_breaks,
    change_card,
    record,
    replace_text,
    sample_record,
    write_warmup,
)

_BOTH = ("sample", "serving_default")
_SEED, _TEMPERATURE = np.arange(2), np.ones(2, np.float32)
_SESSION_LOG = prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()


def _warmup(*records):
    """Adds records to the good ones."""
    good = [sample_record(name, rows) for name in _BOTH for rows in (1, 2)]
    return lambda version: write_warmup(version, [*good, *records])


def _config(fields, base_path="/models/nvae"):
    return f'config {{ name: "digits" base_path: "{base_path}" model_platform: "tensorflow" {fields} }} '


def _models_config(configs):
    return lambda version: (version.parent / "models.config").write_text(f"model_config_list {{ {configs} }}")


def _models(fields, base_path="/models/nvae", card_name=None, versions=()):
    """Writes models.config with one config, and folders of other versions."""

    def edit(version):
        _models_config(_config(fields, base_path))(version)
        for number in versions:
            version.with_name(str(number)).mkdir()
        if card_name:
            change_card(name=card_name)(version)

    return edit


_batching, _config_text, _monitoring = (
    functools.partial(replace_text, f"../{name}")
    for name in ("batching_parameters.txt", "models.config", "monitoring.config")
)
_FILES = {
    "card-other-sizes": ("batching_parameters", change_card(allowed_batch_sizes=[1]), "as in model.json, [1]"),
    "batching-field": ("batching_parameters", _batching("num_", "no_"), "no_batch_threads"),
    "batching-order": ("batching_parameters", _batching("sizes: 1", "sizes: 2"), "expected ascending"),
    "batching-last": ("batching_parameters", _batching("value: 2", "value: 4"), "4"),
    "batching-zero": (
        "batching_parameters",
        _batching("num_batch_threads { value: 1", "num_batch_threads { value: 0"),
        "num_batch_threads >= 1. Received: 0",
    ),
    "models-no-text": ("models_config", _config_text("config {", "config ["), "models.config: 2:3"),
    "models-relative": ("models_config", _config_text("/models/", "models/"), "'models/nvae'"),
    "models-platform": ("models_config", _config_text('"tensorflow"', '"torch"'), "'torch'"),
    "models-label-too-early": (
        "models_config",
        _models('model_version_policy { specific { versions: 1 versions: 2 } } version_labels { key: "a" value: 2 }'),
        "version_labels name the version 2, which is not served. Served: [1]",
    ),
    "models-label": ("models_config", _config_text("value: 1", "value: 7"), "the version 7"),
    "models-not-served": (
        "models_config",
        _models('model_version_policy { latest { } } version_labels { key: "stable" value: 1 }', versions=(2,)),
        "the version 1, which is not served. Served: [2]",
    ),
    "models-specific": (
        "models_config",
        _models("model_version_policy { specific { versions: 1 versions: 3 } }"),
        "the policy names the version 3, which is not there",
    ),
    "models-mounted-elsewhere": (
        "models_config",
        _models('version_labels { key: "stable" value: 7 }', base_path="/srv/other", card_name="digits"),
        "models.config, digits: version_labels name the version 7",
    ),
    "models-one-name": ("models_config", _models_config(_config("") * 2), "Received: ['digits', 'digits']"),
    "models-empty": ("models_config", _models_config(""), "expected model_config_list with a config"),
    "monitoring-field": ("monitoring_config", _monitoring("path", "file"), 'named "file"'),
    "monitoring-path": ("monitoring_config", _monitoring("/metrics", "metrics"), "'metrics'"),
    "no-warmup": ("warm_up", lambda version: (version / WARMUP).unlink(), "expected assets.extra/"),
    "warmup-no-record": ("warm_up", lambda version: (version / WARMUP).write_bytes(b"x" * 40), "TFRecord"),
    "warmup-cut": ("warm_up", lambda version: os.truncate(version / WARMUP, 150), "TFRecord"),
    "warmup-no-log": ("warm_up", _warmup(b"\xff"), "record 4: expected a PredictionLog"),
    "warmup-other-log": ("warm_up", _warmup(_SESSION_LOG), "expected a PredictionLog with a predict_log"),
    "warmup-too-many": ("warm_up", _warmup(*[sample_record("sample", 1)] * 997), "Received: 1001"),
    "warmup-empty": ("warm_up", lambda version: (version / WARMUP).write_bytes(b""), "Received: 0"),
    "warmup-signature": ("warm_up", _warmup(sample_record("other", 1)), "no signature 'other'"),
    "warmup-input": ("warm_up", _warmup(record("sample", seed=_SEED)), "Received: ['seed']"),
    "warmup-size": (
        "warm_up",
        lambda version: write_warmup(version, [sample_record(n, 1 + (n == "sample")) for n in _BOTH for _ in "ab"]),
        "no request of sample with the batch size 1",
    ),
}


@pytest.mark.parametrize("case", _FILES)
def test_broken_files(version, case):
    rule, edit, words = _FILES[case]
    edit(version)
    assert_breaks(version, rule, words)


def test_labels_of_versions_that_are_served(version):
    policies = ("all { }", "latest { num_versions: 2 }", "specific { versions: 1 versions: 2 }")
    for policy in policies:
        labels = 'version_labels { key: "a" value: 1 } version_labels { key: "b" value: 2 }'
        _models(f"model_version_policy {{ {policy} }} {labels}")(version)
        version.with_name("2").mkdir(exist_ok=True)
        (advice,) = server_rules.models_config(read_saved_model(version))
        assert isinstance(advice, Advice) and "a to 1, b to 2: the server refuses a label moved to a" in advice, policy


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"need tensorflow-serving-api: pip install -e '\.\[serve\]'"):
        importlib.reload(server_rules)  # which fails in its imports, before it changes anything
