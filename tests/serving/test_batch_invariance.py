"""A row's answer depends on nothing but the row: its noise to the bit, its image to the rounding of convolutions."""

import concurrent.futures
import functools
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.models.noise import keyed_noise, row_keys

sys.path.append(str(pathlib.Path(__file__).parent))
from stand_in_model import Version

_ROWS = 1000
_SINGLE = np.arange(_ROWS)[:, np.newaxis]


@pytest.fixture(scope="module")
def one_by_one(exported, start_stand_in, tmp_path_factory):
    """A server, in another process than `stand_in`, that runs every request as it comes."""
    base_path = tmp_path_factory.mktemp("one_by_one")
    shutil.copytree(exported / "1", base_path / "1", ignore=shutil.ignore_patterns("tf_serving_warmup_requests"))
    return start_stand_in(base_path, "--poll_seconds=0.05")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    seed = rng.integers(-(2**63), 2**63, _ROWS)
    temperature = rng.uniform(0.1, 1.5, _ROWS).astype(np.float32)
    seed[2], temperature[2] = seed[0], temperature[0]
    return {"seed": seed, "temperature": temperature}


def _random_groups(sizes, seed):
    """All rows in random order, in groups of some of the sizes."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.choice(sizes, _ROWS))
    return np.split(rng.permutation(_ROWS), ends[ends < _ROWS])


def _ask(predict, inputs, groups, threads=1):
    """{output: values in the order of the rows}, of one request for each group."""

    def ask(group):
        return predict({name: value[group] for name, value in inputs.items()})

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(ask, groups))
    order = np.argsort(np.concatenate(groups))
    return {name: np.concatenate([answer[name] for answer in answers])[order] for name in answers[0]}


def _sample(server, rows, groups, threads=1):
    return _ask(lambda inputs: server.predict("sample", inputs, ["image"]), rows, groups, threads)["image"]


@pytest.fixture(scope="module")
def alone(one_by_one, rows):
    """Images of the rows, each of which came alone."""
    return _sample(one_by_one, rows, _SINGLE)


def _assert_same_to_rounding(received, expected):
    """At most one value in 100,000 differs, and that by one level of 255."""
    differences = np.abs(received.astype(int) - expected)
    assert differences.max() <= 1
    assert np.count_nonzero(differences) <= differences.size / 100_000


def test_rows_are_different_images(alone):
    """Else the comparisons below would say nothing."""
    np.testing.assert_array_equal(alone[0], alone[2])
    assert len(np.unique(alone, axis=0)) == _ROWS - 1


def test_images_are_the_same_in_groups(one_by_one, rows, alone):
    _assert_same_to_rounding(_sample(one_by_one, rows, _random_groups(range(1, 33), 1)), alone)


def test_images_are_the_same_in_merged_and_padded_batches(stand_in, rows, alone):
    _assert_same_to_rounding(_sample(stand_in, rows, _random_groups([1, 2, 3], 2), threads=16), alone)


def test_parameters_are_the_same_in_groups(exported, one_by_one):
    card = json.loads((exported / "1" / "assets.extra" / "model.json").read_text())
    rng = np.random.default_rng(3)
    inputs = {
        name: rng.standard_normal((_ROWS, *spec["shape"][1:]), np.float32)
        for name, spec in card["signatures"]["decode"]["inputs"].items()
    }
    inputs["temperature"] = rng.uniform(0.1, 1.5, _ROWS).astype(np.float32)
    predict = functools.partial(one_by_one.predict, "decode")
    expected, received = (_ask(predict, inputs, groups) for groups in (_SINGLE, _random_groups(range(1, 33), 3)))
    for name in ("likelihood_params", "mean_image"):
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-5, atol=1e-5)


def test_same_groups_give_the_same_bits_in_another_process_and_after_a_reload(one_by_one, stand_in, rows):
    # Of sizes that need no padding, and one after another: the other server merges nothing.
    groups = _random_groups([1, 4, 16], 4)
    expected = _sample(one_by_one, rows, groups)
    np.testing.assert_array_equal(_sample(stand_in, rows, groups), expected)
    one_by_one.publish(2, functools.partial(shutil.copytree, one_by_one.base_path / "1"))
    one_by_one.wait_for({2: "AVAILABLE", 1: "END"})
    np.testing.assert_array_equal(_sample(one_by_one, rows, groups), expected)


class _Noise(tf.Module):
    """What the signatures make of a seed first, by itself."""

    shapes = [2, 2, 3], [4, 4, 3]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def draw(self, seed):
        shapes = [[tf.shape(seed)[0], *shape] for shape in self.shapes]
        coarse, fine = keyed_noise(shapes, row_keys(seed, tf.zeros_like(seed)))
        return {"coarse": coarse, "fine": fine}


def test_noise_has_the_same_bits_in_any_batch_after_any_load(rows, tmp_path):
    noise = _Noise()
    tf.saved_model.save(noise, str(tmp_path), {"serving_default": noise.draw})
    version, loaded_again = Version(tmp_path, None), Version(tmp_path, None)
    seeds = {"seed": rows["seed"]}
    expected = _ask(functools.partial(version.predict, ""), seeds, _SINGLE)
    assert len(np.unique(expected["fine"], axis=0)) == _ROWS - 1
    for each in (version, loaded_again):
        received = _ask(functools.partial(each.predict, ""), seeds, _random_groups(range(1, 33), 5))
        for name, values in expected.items():
            np.testing.assert_array_equal(received[name].view(np.uint32), values.view(np.uint32))
    for each in (version, loaded_again):
        each.close()
