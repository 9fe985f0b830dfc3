"""Two replicas on two logical CPU devices against one replica with both batches."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting
from nvae_tf.layers.replicas import mean_over_replicas, replica_index
from nvae_tf.training.distributed.strategy import local_replicas, num_workers, numbers_of_workers, worker_index
from nvae_tf.training.trainer import Trainer

KL_WEIGHT, REGULARIZATION, LEARNING_RATE = 0.3, 0.1, 0.01


@pytest.fixture(scope="module")
def strategy(two_replicas):
    return two_replicas


@pytest.fixture(scope="module")
def share(strategy):
    """Function that gives each replica its half of an array's rows."""

    def split(array):
        half = len(array) // 2
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group * half :][:half])
        )

    return split


def _copies(strategy, variable):
    return [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]


def test_data_dependent_initialisation_uses_the_batch_of_all_replicas(strategy, share):
    x = (2.0 * np.random.default_rng(0).normal(size=(6, 4, 2, 5)) + 3.0).astype(np.float32)

    def build():
        tf.random.set_seed(0)
        conv = Conv2D(3, 3, data_dependent=True)
        conv.build(x.shape)
        conv.kernel.assign(np.random.default_rng(2).normal(size=conv.kernel.shape))
        return conv

    def initialize(conv, x):
        with setting(INITIALIZING_FROM_DATA, True):
            conv(x)

    with strategy.scope():
        two = build()
    tf.function(lambda x: strategy.run(lambda x: initialize(two, x), args=(x,)), autograph=False)(share(x))
    one = build()
    initialize(one, tf.constant(x))
    for ours, theirs in ((two.log_norm, one.log_norm), (two.bias, one.bias)):
        for copy in _copies(strategy, ours):
            np.testing.assert_allclose(copy, theirs, rtol=1e-4, atol=1e-5)


def test_one_process_is_worker_0_with_all_replicas(strategy):
    assert (num_workers(strategy), worker_index(strategy), local_replicas(strategy)) == (1, 0, (0, 1))
    assert numbers_of_workers(strategy, 7) == [7.0]
    values = [tf.constant(1.0)]
    assert mean_over_replicas(values) is values and replica_index() == 0  # one replica adds nothing to the graph


@pytest.fixture(scope="module")
def trainers(strategy, make_model, train_config, digits):
    """Trainers with one and with two replicas, and the noise of each image.

    The loss is scaled although the dtype is float32, so that one trace also serves the test of an infinity.
    """
    config = train_config()
    pair = []
    for one_or_two in (tf.distribute.get_strategy(), strategy):
        with one_or_two.scope():
            model = make_model()
        trainer = Trainer(model, config, 10, one_or_two)
        guards = trainer.state["guards"]
        guards.scales_loss = True
        guards.loss_scale.assign(1024.0)
        pair.append(trainer)
    noise = [np.random.default_rng(1).normal(size=shape).astype(np.float32) for shape in pair[0].model.noise_shapes(16)]
    return pair, noise


@pytest.fixture(scope="module")
def step_with_noise(trainers, strategy, share, digits):
    """Function (index of the trainer, images) that takes a step and returns the report."""
    pair, noise = trainers

    def update(trainer):
        def run(images, eps):
            return trainer._training_step.update(images, eps, KL_WEIGHT, REGULARIZATION, LEARNING_RATE)

        return tf.function(lambda images, eps: trainer._strategy.run(run, args=(images, eps)), autograph=False)

    functions = [update(trainer) for trainer in pair]

    def step(index, images):
        put = share if index else tf.constant
        report = functions[index](put(images), [put(eps) for eps in noise])
        return {name: strategy.experimental_local_results(value)[0].numpy() for name, value in report.items()}

    return step


def _state(strategy, trainer):
    """{name: array} of the state of a trainer, which must be the same on every replica."""
    state = {}
    for part, layer in trainer.state.items():
        for variable in layer.variables:
            first, *others = _copies(strategy, variable)
            for other in others:
                np.testing.assert_array_equal(first, other, err_msg=variable.path)
            state[part, variable.path] = first
    return state


def test_two_replicas_take_the_step_of_one_with_twice_the_batch(trainers, step_with_noise, strategy, digits):
    (one, two), _ = trainers
    reports = [step_with_noise(index, digits[0]) for index in range(2)]
    assert set(reports[0]) == set(reports[1])
    for name, expected in reports[0].items():
        np.testing.assert_allclose(reports[1][name], expected, rtol=1e-4, atol=1e-4, err_msg=name)
    expected, received = _state(strategy, one), _state(strategy, two)
    assert set(expected) == set(received)
    # The first moment after one step is a tenth of the gradient; the weights and the statistics have moved.
    largest = max(np.abs(value).max() for (part, path), value in expected.items() if "/m_" in path)
    for name, value in expected.items():
        atol = 1e-4 * (largest if "/m_" in name[1] or "/u_" in name[1] else 1.0)
        np.testing.assert_allclose(received[name], value, rtol=1e-4, atol=atol, err_msg=str(name))


def test_infinity_on_one_replica_changes_no_weight_anywhere(trainers, step_with_noise, strategy, digits):
    (_, two), _ = trainers
    step_with_noise(1, digits[0])  # so that the moments are not zero
    before = _state(strategy, two)
    images = digits[1].copy()
    images[12, 3, 3, 0] = np.inf  # in the second half: only on replica 1
    report = step_with_noise(1, images)
    after = _state(strategy, two)
    assert not np.isfinite(report["loss"]) and report["num_nonfinite"] == 1
    for name in before:
        if name[0] in ("model", "optimizer"):
            np.testing.assert_array_equal(before[name], after[name], err_msg=str(name))
    scale = "guards", "guards/loss_scale"
    assert after[scale] == before[scale] / 2
    report = step_with_noise(1, digits[1])
    assert np.isfinite(report["loss"]) and report["nonfinite_in_a_row"] == 0


def test_every_variant_of_the_step_runs_on_replicas(strategy, make_model, train_config, digits):
    config = train_config(
        micro_batches=2,
        remat="cells",
        precision="mixed_float16",
        stability="safe",
        learning_rate_rule="sqrt",
        reference_batch_size=8,
    )
    with strategy.scope():
        model = make_model(num_flows=0)
    trainer = Trainer(model, config, 10, strategy)
    before = _state(strategy, trainer)
    trainer.step = 1  # the learning rate of step 0 is 0
    report = trainer.advance(tf.constant(digits[0]), tf.constant(digits[1]))
    assert np.isfinite(report["loss"]) and report["num_nonfinite"] == 0
    np.testing.assert_allclose(report["learning_rate"], 1e-2 * 0.1 * np.sqrt(32 / 8), rtol=1e-5)
    after = _state(strategy, trainer)
    moved = [np.any(before[name] != after[name]) for name in before if name[0] in ("model", "ema")]
    assert np.mean(moved) > 0.9


def test_noise_differs_between_replicas_and_steps_and_is_reproducible(trainers, strategy):
    (_, two), _ = trainers
    draw = tf.function(lambda step: strategy.run(lambda s: two._noise(4, s)[0], args=(step,)), autograph=False)

    def at(step):
        return [copy.numpy() for copy in strategy.experimental_local_results(draw(tf.constant(step, tf.int64)))]

    first, again, later = at(5), at(5), at(6)
    assert np.abs(first[0] - first[1]).max() > 0.1 and np.abs(first[0] - later[0]).max() > 0.1
    np.testing.assert_array_equal(first, again)
