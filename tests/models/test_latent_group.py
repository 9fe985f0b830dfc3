import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from nvae_tf import hierarchy
from nvae_tf.models.latent_group import LatentGroup
from tests import tiny

BATCH = 3


def _clamp(x):
    return 5 * np.tanh(x / 5)


def _scale(x):
    return np.exp(_clamp(x)) + 1e-2


class _Case:
    """A built group and the inputs of one call."""

    def __init__(self, config, index):
        scale = hierarchy.group_scales(config)[index]
        self.group = LatentGroup(config, index)
        rng = np.random.default_rng(index)
        spatial = (BATCH, scale.height, scale.width)
        self.state, self.feature, self.noise = (
            tf.constant(rng.normal(size=(*spatial, channels)), tf.float32)
            for channels in (scale.decoder_channels, scale.encoder_channels, config.latent_channels)
        )
        self.group.build((None, *self.state.shape[1:]))
        tiny.perturb(self.group)

    def infer(self):
        return self.group.infer(self.state, self.feature, self.noise)

    def posterior_and_prior(self):
        """((loc, log_scale), (loc, log_scale)) of a later group, from the definition."""
        state = self.group.cells[0](self.state)
        prior = np.split(self.group.prior_head(tf.nn.elu(state)).numpy(), 2, axis=-1)
        feature = self.feature + self.group.encoder_combiner.conv(state)
        return np.split(self.group.posterior_head(feature).numpy(), 2, axis=-1), prior


def _make(index, **overrides):
    return _Case(tiny.model_config(8, encoder_channels=6, **overrides), index)


def _kl(posterior, prior):
    loc, scale, prior_loc, prior_scale = posterior[0], posterior[1], prior[0], prior[1]
    ratio = scale / prior_scale
    return 0.5 * (ratio**2 + ((loc - prior_loc) / prior_scale) ** 2 - 1) - np.log(ratio)


def test_the_first_group_has_a_fixed_prior():
    case = _make(0)
    assert not case.group.cells and case.group.prior_head is None and case.group.encoder_combiner is None
    state, terms = case.infer()
    loc, log_scale = np.split(case.group.posterior_head(case.feature).numpy(), 2, axis=-1)
    z = _clamp(loc) + _scale(log_scale) * case.noise
    np.testing.assert_allclose(terms.latent, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms.log_p, stats.norm.logpdf(z, 0, 1.01).sum((1, 2, 3)), rtol=1e-4)
    kl = _kl((_clamp(loc), _scale(log_scale)), (0.0, 1.01)).sum((1, 2))
    np.testing.assert_allclose(terms.kl_per_channel, kl, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(state, case.group.merge.conv(tf.concat([case.state, terms.latent], -1)), rtol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_posterior_sample_kl_and_densities(residual):
    case = _make(1, residual_posterior=residual)
    posterior, prior = case.posterior_and_prior()
    if residual:
        posterior = [one + other for one, other in zip(posterior, prior, strict=True)]
    loc, scale = _clamp(posterior[0]), _scale(posterior[1])
    prior_loc, prior_scale = _clamp(prior[0]), _scale(prior[1])
    _, terms = case.infer()
    z = loc + scale * case.noise
    np.testing.assert_allclose(terms.latent, z, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(terms.log_q, stats.norm.logpdf(z, loc, scale).sum((1, 2, 3)), rtol=1e-3, atol=1e-3)
    expected_log_p = stats.norm.logpdf(z, prior_loc, prior_scale).sum((1, 2, 3))
    np.testing.assert_allclose(terms.log_p, expected_log_p, rtol=1e-3, atol=1e-3)
    kl = _kl((loc, scale), (prior_loc, prior_scale)).sum((1, 2))
    np.testing.assert_allclose(terms.kl_per_channel, kl, rtol=1e-3, atol=1e-3)


def test_residual_parameters_are_added_before_the_clamp():
    case = _make(1)
    # Both are far outside the clamp; added after it, they would give a loc of almost 10.
    case.group.prior_head.bias.assign([50.0, 50.0, 0.0, 0.0])
    case.group.posterior_head.bias.assign([50.0, 50.0, -5.0, -5.0])
    _, terms = case.infer()
    assert 4.5 < terms.latent.numpy().mean() < 5.1


def test_with_flows_the_kl_is_log_q_before_minus_log_p_after():
    case = _make(1, num_flows=2)
    posterior, prior = case.posterior_and_prior()
    loc, scale = _clamp(posterior[0] + prior[0]), _scale(posterior[1] + prior[1])
    sample = (loc + scale * case.noise.numpy()).astype(np.float32)
    z = case.group.flows[1](case.group.flows[0](sample)).numpy()
    assert np.abs(z - sample).max() > 0.01
    state, terms = case.infer()
    np.testing.assert_allclose(terms.latent, z, rtol=1e-3, atol=1e-3)
    log_q = stats.norm.logpdf(sample, loc, scale)
    log_p = stats.norm.logpdf(z, _clamp(prior[0]), _scale(prior[1]))
    np.testing.assert_allclose(terms.log_q, log_q.sum((1, 2, 3)), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(terms.log_p, log_p.sum((1, 2, 3)), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(terms.kl_per_channel, (log_q - log_p).sum((1, 2)), rtol=1e-3, atol=1e-2)
    merged = case.group.merge.conv(tf.concat([case.group.cells[0](case.state), terms.latent], -1))
    np.testing.assert_allclose(state, merged, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_generation_uses_the_prior_at_a_temperature_and_no_flow(temperature):
    case = _make(1, num_flows=1)
    _, prior = case.posterior_and_prior()
    z = (_clamp(prior[0]) + temperature * _scale(prior[1]) * case.noise.numpy()).astype(np.float32)
    merged = case.group.merge.conv(tf.concat([case.group.cells[0](case.state), z], -1))
    generated, _ = case.group.generate(case.state, case.noise, temperature)
    np.testing.assert_allclose(generated, merged, rtol=1e-4, atol=1e-4)


def test_without_a_state_to_merge_the_state_is_a_convolution_of_the_latent():
    case = _make(0, num_scales=1, groups_per_scale=1)
    state, terms = case.group.infer(None, case.feature, case.noise)
    np.testing.assert_allclose(state, case.group.merge(terms.latent), rtol=1e-5, atol=1e-6)
    generated, _ = case.group.generate(None, case.noise)
    np.testing.assert_allclose(generated, case.group.merge(1.01 * case.noise), rtol=1e-4, atol=1e-5)
