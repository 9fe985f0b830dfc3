"""Where the latent groups live: against the published models and numbers worked out by hand."""

import pytest

from nvae_tf import hierarchy
from nvae_tf.config import ModelConfig


def _celeba_hq():
    return ModelConfig(
        image_height=256,
        image_width=256,
        image_channels=3,
        likelihood="logistic_mixture",
        num_scales=5,
        groups_per_scale=16,
        adaptive_groups=True,
        min_groups_per_scale=4,
        encoder_channels=30,
        decoder_channels=30,
        preprocess_blocks=1,
        postprocess_blocks=1,
    ).validate()


def _small():
    """Two scales, groups (2, 4) from the coarsest, towers of different widths, an oblong padded image."""
    return ModelConfig(
        image_height=32,
        image_width=48,
        padding=2,
        num_scales=2,
        groups_per_scale=4,
        adaptive_groups=True,
        latent_channels=6,
        encoder_channels=8,
        decoder_channels=12,
    ).validate()


@pytest.mark.parametrize(
    "num_scales, groups, adaptive, least, expected",
    [
        (5, 16, True, 4, (4, 4, 4, 8, 16)),
        (3, 20, True, 1, (5, 10, 20)),
        (2, 10, True, 1, (5, 10)),
        (4, 3, True, 1, (1, 1, 1, 3)),
        (3, 2, True, 4, (4, 4, 2)),
        (3, 9, True, 1, (2, 4, 9)),
        (1, 30, False, 1, (30,)),
        (3, 5, False, 7, (5, 5, 5)),
    ],
)
def test_groups_per_scale(num_scales, groups, adaptive, least, expected):
    config = ModelConfig(
        num_scales=num_scales, groups_per_scale=groups, adaptive_groups=adaptive, min_groups_per_scale=least
    )
    assert hierarchy.groups_per_scale(config) == expected
    assert hierarchy.num_groups(config) == sum(expected)


def test_scales_of_an_oblong_model_with_towers_of_different_widths():
    coarse, fine = hierarchy.scales(_small())
    assert coarse == hierarchy.Scale(0, num_groups=2, height=4, width=6, encoder_channels=64, decoder_channels=96)
    assert fine == hierarchy.Scale(1, num_groups=4, height=8, width=12, encoder_channels=32, decoder_channels=48)


def test_groups_are_numbered_in_generation_order():
    assert [scale.index for scale in hierarchy.group_scales(_small())] == [0, 0, 1, 1, 1, 1]
    assert hierarchy.noise_shapes(_small(), 3) == [(3, 4, 6, 6)] * 2 + [(3, 8, 12, 6)] * 4


def test_balance_scales_follow_the_latents_of_a_group():
    # 1/2 at the coarse scale, 4/4 at the fine one, divided by the smallest.
    assert hierarchy.kl_balance_scales(_small()) == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    # 1/4, 4/4, 16/4, 64/8, 256/16, divided by 1/4.
    expected = [1.0] * 4 + [4.0] * 4 + [16.0] * 4 + [32.0] * 8 + [64.0] * 16
    assert hierarchy.kl_balance_scales(_celeba_hq()) == expected


@pytest.mark.parametrize("num_scales, groups, expected", [(1, 1, False), (1, 2, True), (2, 1, True)])
def test_only_one_scale_with_one_group_has_no_towers(num_scales, groups, expected):
    assert hierarchy.has_towers(ModelConfig(num_scales=num_scales, groups_per_scale=groups)) is expected


def test_padding_does_not_count_as_output():
    assert hierarchy.num_outputs(ModelConfig(padding=2)) == 28 * 28
    assert hierarchy.num_outputs(_small()) == 28 * 44
    assert hierarchy.num_outputs(_celeba_hq()) == 256 * 256 * 3


@pytest.mark.parametrize(
    "likelihood, channels, mixtures, expected",
    [
        ("bernoulli", 1, 10, 1),
        ("bernoulli", 3, 10, 3),
        ("normal", 1, 10, 2),
        ("normal", 3, 1, 6),
        ("logistic_mixture", 3, 10, 100),
        ("logistic_mixture", 3, 5, 50),
        ("logistic_mixture", 1, 10, 30),
        ("logistic_mixture", 4, 1, 15),
    ],
)
def test_likelihood_parameters(likelihood, channels, mixtures, expected):
    config = ModelConfig(likelihood=likelihood, image_channels=channels, num_mixtures=mixtures)
    assert hierarchy.num_likelihood_parameters(config) == expected
