"""Values are restored completely or not at all."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import DamagedCheckpointError

SIZE = 50
NAMES = [("ema", "a"), ("model", "a"), ("model", "b"), ("model", "c"), ("optimizer", "z")]


def _parts(start):
    """Parts whose variables hold consecutive numbers starting at `start`."""
    parts = {}
    for i, (part, name) in enumerate(NAMES):
        first = start + i * SIZE
        values = np.arange(first, first + SIZE, dtype=np.float32)
        parts.setdefault(part, {})[name] = tf.Variable(values)
    return parts


def _values(parts):
    return {(part, name): variable.numpy() for part, names in parts.items() for name, variable in names.items()}


def _flip_within(folder, values):
    """Flips a bit in the middle of the given values in the checkpoint."""
    path = folder / "state.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    assert content.count(values.tobytes()) == 1
    content[content.index(values.tobytes()) + values.nbytes // 2] ^= 1
    path.write_bytes(content)


def test_any_damage_is_noticed_and_no_variable_changes(folder, damage):
    damage(folder.save(1, _parts(1000)))
    parts = _parts(0)
    with pytest.raises(DamagedCheckpointError, match="step_00000001: expected a readable checkpoint. Received: ."):
        folder.restore(parts)
    np.testing.assert_equal(_values(parts), _values(_parts(0)))


@pytest.mark.parametrize("where", NAMES, ids="/".join)
def test_a_flipped_bit_in_any_tensor_is_noticed_and_no_variable_changes(folder, where):
    path = folder.save(1, _parts(1000))
    _flip_within(path, _values(_parts(1000))[where])
    parts = _parts(0)
    with pytest.raises(DamagedCheckpointError, match=f"Received: {'/'.join(where)}: .*[Cc]hecksum"):
        folder.restore(parts)
    np.testing.assert_equal(_values(parts), _values(_parts(0)))


def test_damage_in_another_part_does_not_matter(folder):
    path = folder.save(1, _parts(1000))
    _flip_within(path, _values(_parts(1000))["optimizer", "z"])
    model = {"model": _parts(0)["model"]}
    folder.restore(model)
    np.testing.assert_equal(_values(model), _values({"model": _parts(1000)["model"]}))


def test_lost_end_of_a_long_index_is_damage_not_a_misfit(folder):
    # TensorFlow reads an index of several blocks up to a damaged one without an error.
    parts = {"model": {f"{i:02d}{'x' * 10_000}": tf.Variable(0.0) for i in range(60)}}
    path = folder.save(1, parts) / "state.index"
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)
    listed = tf.train.load_checkpoint(str(path.with_suffix(""))).get_variable_to_shape_map()
    assert 1 < len(listed) < 60
    with pytest.raises(DamagedCheckpointError, match=f"an index that lost {61 - len(listed)} of 60 variables"):
        folder.restore(parts)


def test_names_of_parts(folder, damage):
    folder.save(1, {"model": {"w": tf.Variable(0.0)}})
    path = folder.save(2, {part: {"a/w": tf.Variable(0.0)} for part in ("optimizer", "model", "ema")})
    assert folder.parts() == folder.parts("2") == ["ema", "model", "optimizer"]
    assert folder.parts(1) == ["model"]
    damage(path)
    with pytest.raises(DamagedCheckpointError, match="step_00000002: expected a readable checkpoint"):
        folder.parts()
