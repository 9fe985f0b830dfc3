"""A row's answer depends only on that row: its noise exactly, its image up to the rounding of convolutions."""

import concurrent.futures
import functools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.noise import keyed_noise, row_keys
from tests import tiny
from tests.serving.stand_in_model import Version

_ROWS = 100
_SINGLE = np.arange(_ROWS)[:, np.newaxis]


@pytest.fixture(scope="module")
def one_by_one(tiny_base, start_stand_in, tmp_path_factory):
    """A server, in another process than `stand_in`, that runs every request by itself."""
    base_path = tmp_path_factory.mktemp("one_by_one")
    shutil.copytree(tiny_base / "1", base_path / "1", ignore=shutil.ignore_patterns("tf_serving_warmup_requests"))
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


def test_images_are_the_same_in_merged_and_padded_batches(one_by_one, stand_in, rows):
    alone = _sample(one_by_one, rows, _SINGLE)
    # The comparison would show nothing if all images were the same.
    np.testing.assert_array_equal(alone[0], alone[2])
    assert len(np.unique(alone, axis=0)) > 0.95 * _ROWS
    differences = np.abs(_sample(stand_in, rows, _random_groups([1, 2, 3], 2), threads=16).astype(int) - alone)
    # At most one value in 100,000 differs, and that by one level of 255.
    assert differences.max() <= 1
    assert np.count_nonzero(differences) <= np.ceil(differences.size / 100_000)


def test_same_groups_give_the_same_bits_in_another_process_and_after_a_reload(one_by_one, stand_in, rows):
    # The sizes need no padding, and the requests follow one another, because the other server merges nothing.
    groups = _random_groups([1, 4, 16], 4)
    expected = _sample(one_by_one, rows, groups)
    np.testing.assert_array_equal(_sample(stand_in, rows, groups), expected)
    one_by_one.publish(2, functools.partial(shutil.copytree, one_by_one.base_path / "1"))
    one_by_one.wait_for({2: "AVAILABLE", 1: "END"})
    np.testing.assert_array_equal(_sample(one_by_one, rows, groups), expected)


class _Parts(tf.Module):
    """Parts of the signatures: the noise of a seed, and the parameters of a mixture."""

    def __init__(self):
        super().__init__()
        fields = {"image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2}
        self.model = InferenceModel(fold(tiny.model(8, **fields)))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def noise(self, seed):
        noise = keyed_noise(self.model.noise_shapes(tf.shape(seed)[0]), row_keys(seed, tf.zeros_like(seed)))
        return {f"noise_{index}": values for index, values in enumerate(noise)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)])
    def params(self, seed, temperature):
        return {"params": self.model.generate(list(self.noise(seed).values()), temperature)}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two loads of `_Parts` by the C++ loader."""
    module, folder = _Parts(), tmp_path_factory.mktemp("parts")
    tf.saved_model.save(module, str(folder), {"noise": module.noise, "params": module.params})
    loads = [Version(folder, None) for _ in range(2)]
    yield loads
    for version in loads:
        version.close()


def test_noise_has_the_same_bits_in_any_batch_after_any_load(parts, rows):
    seeds = {"seed": rows["seed"]}
    expected = _ask(functools.partial(parts[0].predict, "noise"), seeds, _SINGLE)
    received = _ask(functools.partial(parts[1].predict, "noise"), seeds, _random_groups(range(1, 33), 5))
    assert len(np.unique(expected["noise_0"], axis=0)) == _ROWS - 1
    for name, values in expected.items():
        np.testing.assert_array_equal(received[name].view(np.uint32), values.view(np.uint32))


def test_parameters_of_a_mixture_are_the_same_to_rounding(parts, rows):
    predict = functools.partial(parts[0].predict, "params")
    expected, received = (
        _ask(predict, rows, groups)["params"] for groups in (_SINGLE, _random_groups(range(1, 33), 3))
    )
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
