import numpy as np
import pytest

from nvae_tf.models.latent_group import LatentGroup
from tests import tiny


@pytest.mark.parametrize(
    "fields",
    [
        {"num_flows": 2},
        {"num_scales": 1, "groups_per_scale": 1, "num_flows": 1},
        {"residual_posterior": False},
        {"likelihood": "normal", "image_channels": 3},
    ],
)
def test_given_latents_and_their_noise_reproduce_the_original_output(fields, draw):
    model = tiny.model(8, **fields)
    images, noise = draw(model, 3)
    output = model(images, noise=noise)
    np.testing.assert_allclose(model.decode(output.latents), output.likelihood_params, rtol=1e-5, atol=1e-5)
    eps = model.prior_noise(output.latents)
    assert [tuple(part.shape) for part in eps] == model.noise_shapes(3)
    np.testing.assert_allclose(eps[0], output.latents[0] / 1.01, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.generate(eps), output.likelihood_params, rtol=1e-5, atol=1e-5)


def test_the_noise_of_a_prior_sample_is_the_noise_it_was_made_from(flow_model, draw, monkeypatch):
    _, noise = draw(flow_model, 2)
    latents, merge = [], LatentGroup._merge
    monkeypatch.setattr(LatentGroup, "_merge", lambda *args: latents.append(args[2]) or merge(*args))
    params = flow_model.generate(noise)
    monkeypatch.undo()
    for eps, expected in zip(flow_model.prior_noise(latents), noise, strict=True):
        np.testing.assert_allclose(eps, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(flow_model.decode(latents), params, rtol=1e-5, atol=1e-5)


def test_wrong_latents_are_refused(model, draw):
    _, latents = draw(model, 2)
    with pytest.raises(ValueError, match="latents: expected 3 tensors.*Received: 2"):
        model.decode(latents[:-1])
    with pytest.raises(ValueError, match="latents: expected 3 tensors.*Received: 0"):
        model.prior_noise([])
    with pytest.raises(ValueError, match=r"latents\[2\]: expected shape \[2, 4, 4, 2\]"):
        model.decode([*latents[:2], latents[2][:1]])
