import numpy as np

from nvae_tf.config import Config, DataConfig, ModelConfig, TrainConfig
from nvae_tf.evaluation.report.comparison import Entry, as_text, figures, incomparable

_EVALUATION = {"num_samples": 1, "num_images": 9, "split": "test", "nelbo": 10.0, "nll_bound": 9.0}
_EVALUATION |= {"nelbo_standard_error": None, "nll_bound_standard_error": float("nan")}


def _entry(name, binarize=False, **model):
    config = Config(model=ModelConfig(**model), data=DataConfig(binarize=binarize))
    picture = np.zeros([2, 2, 1], np.uint8)
    return Entry(name, config, 1, None, _EVALUATION, 1000, None, 0.5, picture, picture)


def test_density_and_other_bit_depths_do_not_compare():
    entries = [
        _entry("one", likelihood="logistic_mixture"),
        _entry("two", likelihood="normal"),
        _entry("three", likelihood="logistic_mixture", bit_depth=5),
    ]
    density, depth = incomparable(entries)
    assert density.startswith("two: its likelihood is normal")
    assert depth.endswith("(5 bits: three; 8 bits: one, two).")
    assert incomparable(entries[:1] * 2) == []
    # Binarised images are the same at any bit depth.
    assert incomparable([_entry("one", True), _entry("two", True, bit_depth=5)]) == []


def test_the_objective_names_the_stage_of_a_part():
    entry = _entry("one")
    assert entry.objective == entry.config.model.objective
    entry.config.train = TrainConfig(stage="prior")
    assert entry.objective.endswith("(only the terms of stage 'prior')")


def test_unknown_figures_are_dashes_and_levels_may_be_missing():
    table = figures([_entry("one"), _entry("two", num_scales=3, preprocess_blocks=1, postprocess_blocks=1)])
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Objective, last logged, nats"] == rows["Training, images/s"] == ["–", "–"]
    assert rows["NELBO, nats"] == ["10.00", "10.00"]
    assert rows["Latents, level 2"] == ["", "10 of 16 × 16 × 20"]
    assert max(map(len, as_text(table).splitlines())) <= len("−log p(x), bound with K = 1, bits/dim") + 2 * 26
