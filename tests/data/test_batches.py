"""Batches: order, resumption, shards, flips, binarisation and bit depth."""

import itertools

import numpy as np
import pytest

from nvae_tf.config import DataConfig
from nvae_tf.data.batches import eval_batches, row_batches, steps_per_epoch, train_batches

PLAIN = DataConfig()
BINARIZED = DataConfig(binarize=True)
FLIPPED = DataConfig(horizontal_flip=True)
ALL = DataConfig(binarize=True, horizontal_flip=True)


def numbered(count):
    """Images in which every pixel is the number of the image."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 6, 1)).copy()


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), np.uint8)


def take(dataset, count):
    """The first batches as arrays; from a dataset of tuples, the batches of the first shard."""
    batches = itertools.islice(dataset, count)
    return [(batch[0] if isinstance(batch, tuple) else batch).numpy() for batch in batches]


def numbers(batches):
    return [int(number) for batch in batches for number in np.rint(255 * batch[:, 0, 0, 0])]


def test_batches_are_floats_in_the_unit_interval():
    dataset = train_batches(noise(10), PLAIN, 8, 5, seed=0)
    (batch,) = take(dataset, 1)
    assert batch.dtype == np.float32 and batch.shape == (5, 4, 6, 3)
    assert batch.min() >= 0 and batch.max() <= 1
    assert dataset.element_spec[0].shape.as_list() == [5, 4, 6, 3]


def test_every_image_occurs_once_in_each_epoch_in_a_new_order():
    batches = take(train_batches(numbered(12), PLAIN, 8, 4, seed=3), 6)
    first, second = numbers(batches[:3]), numbers(batches[3:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second and first != sorted(first)


def test_remainder_is_dropped_but_not_always_the_same():
    epochs = take(train_batches(numbered(7), PLAIN, 8, 3, seed=0), 40)
    for first, second in zip(epochs[::2], epochs[1::2], strict=True):
        assert len(set(numbers([first, second]))) == 6
    assert set(numbers(epochs)) == set(range(7))


def test_orders_do_not_repeat():
    # A shuffle with few orders, such as TensorFlow's index_shuffle with 256, would repeat within 400 epochs.
    batches = take(train_batches(numbered(20), PLAIN, 8, 20, seed=0), 400)
    assert len({tuple(numbers([batch])) for batch in batches}) == 400


@pytest.mark.parametrize("start_step", [0, 1, 3, 5, 7])
def test_start_step_equals_skipping(start_step):
    images = noise(13)
    whole = take(train_batches(images, ALL, 5, 4, seed=1), 9)
    resumed = take(train_batches(images, ALL, 5, 4, seed=1, start_step=start_step), 9 - start_step)
    np.testing.assert_array_equal(resumed, whole[start_step:])


def test_seeds_differ_beyond_32_bits():
    # With only the low bits of the seed, 0 and 2**32 would be the same.
    orders = {tuple(numbers(take(train_batches(numbered(20), PLAIN, 8, 20, seed), 1))) for seed in (0, 1, 2**32)}
    assert len(orders) == 3


def test_shards_divide_each_step():
    shards = [take(train_batches(numbered(17), PLAIN, 8, 2, 5, 0, 4, (shard,)), 2) for shard in range(4)]
    seen = [number for shard in shards for number in numbers(shard)]
    assert len(seen) == len(set(seen)) == 16
    # Together they are the batches of a single shard of four times the size.
    whole = take(train_batches(numbered(17), PLAIN, 8, 8, 5), 2)
    for step in range(2):
        assert numbers(shard[step] for shard in shards) == numbers([whole[step]])


def test_shards_of_one_worker_equal_those_read_separately():
    images = np.full((8, 16, 16, 3), 128, np.uint8)
    together = next(iter(train_batches(images, ALL, 5, 2, 0, 0, 4, (2, 3))))
    alone = [take(train_batches(images, ALL, 5, 2, 0, 0, 4, (shard,)), 1)[0] for shard in (2, 3)]
    assert len(together) == 2
    for batch, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(batch, other)


def test_shards_draw_their_own_noise():
    images = np.full((8, 16, 16, 1), 128, np.uint8)
    first, second = (take(train_batches(images, BINARIZED, 8, 4, 0, 0, 2, (shard,)), 1)[0] for shard in range(2))
    assert 0.4 < (first == second).mean() < 0.6


def test_binarisation_is_drawn_in_each_epoch_around_the_intensities():
    images = noise(1)
    draws = np.array(take(train_batches(images, BINARIZED, 8, 1, seed=0), 400))[:, 0]
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert len({draw.tobytes() for draw in draws}) == 400
    probability = images[0] / 255
    deviation = np.sqrt(np.maximum(probability * (1 - probability), 1e-9) / 400)
    assert (np.abs(draws.mean(0) - probability) <= 5 * deviation).all()


def test_binarisation_leaves_black_and_white():
    images = np.concatenate([np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 255, np.uint8)])
    (batch,) = take(eval_batches(images, BINARIZED, 8, 2, seed=0), 1)
    np.testing.assert_array_equal(batch, images / 255)


def test_flip_mirrors_about_half_of_the_images():
    image = noise(1)[0]
    batch = take(train_batches(np.stack([image] * 400), FLIPPED, 8, 400, seed=0), 1)[0] * 255
    straight = (np.rint(batch) == image).all((1, 2, 3))
    mirrored = (np.rint(batch) == image[:, ::-1]).all((1, 2, 3))
    assert (straight ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(400)
    # Flips are drawn in each step.
    batches = take(train_batches(noise(1), FLIPPED, 8, 1, seed=0), 30)
    assert len({batch.tobytes() for batch in batches}) == 2


@pytest.mark.parametrize("bit_depth", range(1, 9))
def test_bit_depth(bit_depth):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = np.floor(images / 2 ** (8 - bit_depth)) / (2**bit_depth - 1)
    for dataset in (train_batches(images, PLAIN, bit_depth, 1, 0), eval_batches(images, PLAIN, bit_depth, 1, 0)):
        (batch,) = take(dataset, 1)
        np.testing.assert_allclose(batch, expected, rtol=1e-6)
        assert len(np.unique(batch)) == 2**bit_depth and batch.max() == 1


def test_rows_come_in_the_order_of_images():
    arguments = 2, 5, 3, 4, (1, 2)
    images, rows = train_batches(numbered(17), PLAIN, 8, *arguments), row_batches(np.arange(17), *arguments)
    for batches, expected in itertools.islice(zip(rows, images, strict=True), 3):
        assert [list(batch.numpy()) for batch in batches] == [numbers([batch.numpy()]) for batch in expected]


def test_evaluation_sees_every_image_once_in_order_and_never_flips():
    batches = list(eval_batches(numbered(7), FLIPPED, 8, 3, seed=0).as_numpy_iterator())
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert numbers(batches) == list(range(7))
    images = noise(30)
    np.testing.assert_allclose(next(iter(eval_batches(images, FLIPPED, 8, 30, 0))), images / 255, rtol=1e-6)


def test_evaluation_draw_depends_only_on_index_and_seed():
    images = np.full((9, 8, 8, 1), 128, np.uint8)

    def draw(batch_size, seed, images=images):
        return np.concatenate(list(eval_batches(images, BINARIZED, 8, batch_size, seed).as_numpy_iterator()))

    reference = draw(9, 0)
    np.testing.assert_array_equal(reference, draw(4, 0))
    np.testing.assert_array_equal(reference[:5], draw(2, 0, images[:5]))
    assert (reference != draw(9, 1)).any()
    assert len({image.tobytes() for image in reference}) == 9


def test_steps_per_epoch():
    assert [steps_per_epoch(10, 3), steps_per_epoch(12, 3, 2), steps_per_epoch(3, 3)] == [3, 2, 1]
    with pytest.raises(ValueError, match=r"batch_size: expected .* at most 5.*Received: 3 \* 2"):
        steps_per_epoch(5, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": noise(4).astype(np.float32)}, "images: expected a uint8 array.*Received: float32"),
        ({"images": noise(4)[0]}, r"images: expected .*Received: uint8 of shape \(4, 6, 3\)"),
        ({"batch_size": 5}, "batch_size: expected .* at most 4"),
    ],
)
def test_arguments_out_of_range(change, message):
    arguments = {"images": noise(4), "data_config": PLAIN, "model_bit_depth": 8, "batch_size": 2, "seed": 0}
    with pytest.raises(ValueError, match=message):
        train_batches(**{**arguments, **change})
