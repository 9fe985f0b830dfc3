"""The SavedModel draws the Keras model's image, and both are timed."""

import re

import pytest

from nvae_tf.config import Config
from nvae_tf.export.saved_model.signatures import Signatures
from nvae_tf.runs.benchmark_serving import GENERATE, SERVED, UNIT, serving_speed, serving_table
from tests.tools.one_group import ONE_GROUP

_CONFIG = Config(model=ONE_GROUP)


def test_all_are_timed_and_shown(capsys):
    figures = serving_table(_CONFIG, batch_size=2, count=2)
    assert set(figures["seconds"]) == {SERVED, GENERATE, UNIT}
    assert all(value > 0 for value in [*figures["seconds"].values(), figures["first_batch_seconds"]])
    printed = capsys.readouterr().out
    assert printed.startswith("drawing 2 images:") and re.search(rf"{UNIT} +[0-9.]+ ms +1.00 units", printed)


def test_another_image_is_told(monkeypatch):
    sample = Signatures._sample
    monkeypatch.setattr(Signatures, "_sample", lambda self, seed, temperature: sample(self, seed + 1, temperature))
    with pytest.raises(ValueError, match="sample of the SavedModel: expected the image of model.generate"):
        serving_speed(_CONFIG, batch_size=2, count=1)
