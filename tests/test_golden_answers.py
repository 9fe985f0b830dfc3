"""Golden answers survive both files, and another file than the one named is refused."""

import numpy as np
import pytest

from nvae_tf.files import file_sum
from nvae_tf.golden_answers import check_sum, read_bin, read_npz, write_bin, write_npz

_FLOATS = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
# Zeros at the end are what NumPy's own byte strings lose.
_ANSWERS = {
    "sample": (
        {"seed": np.array([1, -2]), "temperature": np.ones(2, np.float32)},
        {"image": np.arange(4, dtype=np.uint8).reshape(2, 2), "png_bytes": np.array([b"a\0\0", b""], object)},
    ),
    "decode": ({"noise_00": _FLOATS}, {"params": 2 * _FLOATS}),
}


def _assert_same(received, expected):
    assert [set(tensors) for tensors in received] == [set(tensors) for tensors in expected]
    for tensors, others in zip(received, expected, strict=True):
        for name, value in tensors.items():
            assert value.dtype == others[name].dtype
            np.testing.assert_array_equal(value, others[name])


def test_npz_holds_numbers_and_bytes(tmp_path):
    write_npz(tmp_path / "golden.npz", _ANSWERS)
    answers = read_npz(tmp_path / "golden.npz")
    assert set(answers) == set(_ANSWERS)
    for signature, sides in _ANSWERS.items():
        _assert_same(answers[signature], sides)


def test_bin_holds_the_float32_of_several_signatures(tmp_path):
    answers = {"decode": _ANSWERS["decode"], "encode": ({"image": -_FLOATS}, {"latent_00": _FLOATS[:, :1]})}
    entries = write_bin(tmp_path / "golden.bin", answers)
    assert (tmp_path / "golden.bin").stat().st_size == 4 * (6 + 6 + 6 + 2)
    for signature, sides in answers.items():
        _assert_same(read_bin(tmp_path / "golden.bin", entries[signature]), sides)


def test_another_file_than_the_named_one_is_refused(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(b"right")
    check_sum(path, file_sum(path), "model.json")
    with pytest.raises(ValueError, match="golden.npz: expected the SHA-256 0123 of model.json. Received: "):
        check_sum(path, "0123", "model.json")
