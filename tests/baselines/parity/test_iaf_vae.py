import numpy as np
import pytest

from nvae_tf.baselines.parity.iaf_vae import compare_numbers
from nvae_tf.comparison import read_arrays


@pytest.mark.parametrize("name", ["iaf_depth2_blocks1", "iaf_depth2_blocks2_k3"])
def test_golden_files(baselines_golden, name):
    expected = read_arrays(baselines_golden / "iaf_vae" / f"{name}.npz")
    comparisons = list(compare_numbers(expected))
    assert [comparison for comparison in comparisons if not comparison.ok] == []
    inputs = ("config.", "noise.", "sample_noise.", "init_noise.", "weight.")
    listed = {key for key in expected if not key.startswith(inputs)}
    compared = {comparison.key for comparison in comparisons}
    assert compared == listed - {"images", "init_images", "trajectory_learning_rate"}


def test_files_without_what_is_needed_are_refused(baselines_golden):
    expected = read_arrays(baselines_golden / "iaf_vae" / "diag_depth2_blocks1.npz")
    without = {key: value for key, value in expected.items() if key != "noise.layer_1_0"}
    with pytest.raises(ValueError, match=r"expected the key noise\.layer_1_0\. Received: \d+ others"):
        next(compare_numbers(without))
    other = expected | {"config.h_size": np.int32(8)}
    with pytest.raises(ValueError, match=r"init_weight\.h_top: expected shape \(8,\). Received: \(16,\)"):
        next(compare_numbers(other))
