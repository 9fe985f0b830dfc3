"""Our BIVA computes what the original computed, and nvae_tf.baselines.parity.biva sees where a model does not."""

import json
import re

import numpy as np
import pytest

from nvae_tf.baselines.parity.biva import compare_numbers
from nvae_tf.comparison import read_arrays

_INPUTS = re.compile(r"config|x(_uint8)?|w/.*|(iw/|prior/)?noise/.*|prior/uniform_.*")


@pytest.fixture(scope="module")
def arrays(baselines_golden):
    """Arrays of a file."""
    return read_arrays(baselines_golden / "biva" / "pt_bin28.npz")


def test_colour_and_convolutional_latents(baselines_golden):
    arrays = read_arrays(baselines_golden / "biva" / "pt_rgb32.npz")
    comparisons = list(compare_numbers(arrays))
    assert [comparison for comparison in comparisons if not comparison.ok] == []
    assert [one.key for one in comparisons] == [key for key in arrays if not _INPUTS.fullmatch(key)]


def test_what_differs_in_a_binary_file_fails_and_all_else_agrees(arrays):
    factors = {
        "out/kl/td2": 1.0001,
        "iw/bound": 1.00003,
        "prior/mean": 1.0001,
        "grad/stage2.merge.conv1.v": 1.001,
        "init/stage1.p.0.conv2.g": 1.001,
        "init/stage1.p_bu_head.b": 1.01,
        "adamax/losses": 1.0001,
        "adamax/final/out.b": 1.001,
    }
    changed = {key: array * np.float32(factors.get(key, 1.0)) for key, array in arrays.items() if key in factors}
    comparisons = list(compare_numbers(arrays | changed | {"out/other": np.zeros(1)}))
    assert sorted(one.key for one in comparisons if not one.ok) == sorted([*factors, "out/other"])
    assert len(comparisons) == sum(not _INPUTS.fullmatch(key) for key in arrays) + 1


def test_a_file_may_lack_parts(arrays):
    inputs = ("config", "x", "w/", "noise/")
    kept = {key: array for key, array in arrays.items() if key.startswith((*inputs, "out/"))}
    comparisons = list(compare_numbers(kept))
    assert len(comparisons) == sum(key.startswith("out/") for key in arrays)
    assert all(comparison.ok for comparison in comparisons)


def test_files_that_do_not_fit_are_refused(arrays):
    without = {key: array for key, array in arrays.items() if key != "noise/td1"}
    with pytest.raises(ValueError, match=r"expected the key 'noise/td1'\. Received: \d+ others"):
        next(compare_numbers(without))
    sizes = json.loads(arrays["config"].item())
    sizes["stages"][0][0][2] = 2
    with pytest.raises(ValueError, match="config: expected one width, strides at the ends of stages"):
        next(compare_numbers(arrays | {"config": np.array(json.dumps(sizes))}))
    with pytest.raises(ValueError, match=r"init/out\.v: expected shape \(1, 1, 4, 1\)\. Received: \(4,\)"):
        next(compare_numbers(arrays | {"init/out.v": np.zeros(4, np.float32)}))
