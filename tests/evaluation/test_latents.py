import numpy as np

from nvae_tf.evaluation.latents import (
    decode_noise,
    draw_rows,
    encode,
    interpolate,
    keep_first,
    replace_groups,
)
from nvae_tf.evaluation.sampling import reconstruct, sample_images
from nvae_tf.inference.groups import InferenceGroup
from nvae_tf.models.noise import keyed_noise, row_keys, slerp


def _close(received, expected, tolerance=1e-4):
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def _flow(model, group, values):
    for flow in model.groups[group].flows:
        values = flow(values)
    return values.numpy()


def test_a_draw_depends_only_on_seed_and_index(evaluated_nvae, evaluated_model, binary_images):
    model, indices = evaluated_model, [4, 5, 900]
    encoded = encode(model, binary_images[:3], indices, seed=7)
    keys = row_keys(7, np.array(indices))
    output = evaluated_nvae(binary_images[:3], noise=keyed_noise(model.noise_shapes(3), keys))
    _close(encoded.latents, output.latents)
    np.testing.assert_allclose(encoded.kl_per_group, output.kl_per_group, rtol=1e-4, atol=1e-3)
    halves = encode(model, binary_images[:3][::-1], indices[::-1], seed=7, batch_size=2)
    _close([rows[::-1] for rows in halves.latents], encoded.latents)
    other = encode(model, binary_images[:3], [4, 5, 901], seed=7)
    assert np.abs(other.latents[0] - encoded.latents[0])[2].max() > 0.1


def test_means_and_scales_make_the_latents_through_the_flows(evaluated_nvae, evaluated_model, binary_images):
    nvae, model = evaluated_nvae, evaluated_model
    means = encode(model, binary_images, range(7), draw="mean")
    zeros = [np.zeros(shape, np.float32) for shape in model.noise_shapes(7)]
    _close(means.latents, nvae(binary_images, noise=zeros).latents)
    _close(means.latents, [_flow(nvae, group, loc) for group, loc in enumerate(means.locs)])
    drawn = encode(model, binary_images, range(7), seed=1)
    noise = keyed_noise(model.noise_shapes(7), row_keys(1, np.arange(7)))
    samples = [
        _flow(nvae, group, loc + np.exp(log_scale) * eps)
        for group, (loc, log_scale, eps) in enumerate(zip(drawn.locs, drawn.log_scales, noise, strict=True))
    ]
    _close(drawn.latents, samples)
    np.testing.assert_allclose(drawn.locs[0], means.locs[0], rtol=1e-4, atol=1e-5)


def test_posterior_noise_decodes_to_the_reconstruction(evaluated_model, binary_images):
    model = evaluated_model
    noise = encode(model, binary_images, range(7), seed=3, batch_size=4).noise
    pictures, log_likelihood = decode_noise(model, noise, binary_images, batch_size=4)
    assert pictures.shape == (7, 6, 6, 1)
    np.testing.assert_allclose(pictures, reconstruct(model, binary_images, seed=3), atol=1e-4)
    params = model.generate(noise)
    np.testing.assert_allclose(log_likelihood, model.likelihood(params).log_prob(binary_images), rtol=1e-4)
    assert decode_noise(model, noise)[1] is None


def test_drawn_rows_are_the_samples_of_the_program(evaluated_model):
    model = evaluated_model
    pictures, _ = decode_noise(model, draw_rows(model, 5, 2, [0], temperature=0.7))
    np.testing.assert_allclose(pictures, sample_images(model, 1, 0.7, seed=5, first=2), atol=1e-5)
    rows = draw_rows(model, 5, 2, [0, 1, 2])
    np.testing.assert_array_equal(rows[1][1:], draw_rows(model, 5, 2, [1, 2])[1])
    assert np.abs(rows[0][0] - rows[0][1]).max() > 0.1


def test_each_group_is_interpolated(evaluated_model):
    model = evaluated_model
    first, second = (draw_rows(model, seed, 0, [0]) for seed in (1, 2))
    fractions = np.linspace(0.0, 1.0, 5)
    noise = [slerp(*(np.repeat(end, 5, 0) for end in ends), fractions) for ends in zip(first, second, strict=True)]
    expected, _ = decode_noise(model, noise)
    np.testing.assert_allclose(interpolate(model, first, second, 5, batch_size=2), expected, atol=1e-5)


def test_the_first_groups_are_kept():
    noise, fresh = [[np.full((1, 2, 2, 1), value) for value in values] for values in ((1, 2, 3), (-1, -2, -3))]
    mixed = keep_first(noise, fresh, [1, 3])
    assert [eps[:, 0, 0, 0].tolist() for eps in mixed] == [[1, 1], [-2, 2], [-3, 3]]


def test_only_chosen_groups_and_what_comes_after_them_change(evaluated_model, monkeypatch):
    model = evaluated_model
    noise = draw_rows(model, 0, 0, [0])
    rows = replace_groups(noise, draw_rows(model, 0, 0, [1, 2]), [1])
    latents, merge = [], InferenceGroup.next_state
    monkeypatch.setattr(InferenceGroup, "next_state", lambda *args: latents.append(np.asarray(args[2])) or merge(*args))
    model.generate(rows)
    np.testing.assert_array_equal(latents[0], np.repeat(latents[0][:1], 3, axis=0))
    assert np.abs(latents[1][1:] - latents[1][:1]).max() > 0.1
