"""Graphs for devices and other runtimes: noise is a named input, nothing inside is random, ranks are at most 4.

They use only operations of LiteRT's GPU delegate: sums over channels are convolutions with ones, parts are slices.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from nvae_tf.distributions.normal import BOUND
from nvae_tf.hierarchy import num_mixture_pieces, num_sampled_groups, numbered, sort_mixture_pieces
from nvae_tf.inference.blocks import channels
from nvae_tf.inference.groups import kl_per_group


class DeviceGraph(NamedTuple):
    """The name of a signature, its inputs, and its function, which takes them as keywords."""

    name: str
    inputs: dict  # {name: TensorSpec}, float32
    function: Callable  # returns {name: tensor}


def sample_graph(model, batch_size=None, num_groups=None):
    """`sample`: noise_00.. [B, h, w, latent_channels] and temperature [B] -> likelihood_params and the mean.

    The mean is `probabilities` for the Bernoulli likelihood, else `mean_image`: [B, H, W, C] in [0, 1], with padding.

    Args:
        model: `InferenceModel`.
        batch_size: B; None for any. Default None.
        num_groups: number of groups that have noise, from the first; the others are at their prior's mean. None for
            all. Default None.

    Raises:
        ValueError: the model does not have that many groups.
    """
    config = model.model_config
    names, count = numbered("noise", config), num_sampled_groups(config, num_groups)

    def sample(temperature, **noise):
        return _outputs(config, model.generate([noise.get(name) for name in names], temperature))

    inputs = _specs(names[:count], model.noise_shapes(batch_size)[:count])
    return DeviceGraph("sample", {**inputs, "temperature": tf.TensorSpec([batch_size], name="temperature")}, sample)


def decode_graph(model):
    """`decode`: latent_00.. [B, h, w, latent_channels] -> the outputs of `sample`; for an `InferenceModel`."""
    config = model.model_config
    names = numbered("latent", config)

    def decode(**latents):
        return _outputs(config, model.decode([latents[name] for name in names]))

    return DeviceGraph("decode", _specs(names, model.noise_shapes(None)), decode)


def encode_graph(model, batch_size=None, noise_only=False):
    """`encode`: image [B, H, W, C] in [0, 1], with padding, and posterior_noise_00.. -> latent_00.., noise_00..

    With zeros for noise every posterior is at its mean. noise_00.. is the noise from which `sample` makes the same
    latents at temperature 1; kl_per_group [B, G] is in nats.

    Args:
        model: `InferenceModel`.
        batch_size: B; None for any. Default None.
        noise_only: return only noise_00.., which a GPU delegate can compute. Default False.
    """
    config = model.model_config
    names = numbered("posterior_noise", config)

    def encode(image, **noise):
        terms = model.infer(image, [noise[name] for name in names])[1]
        outputs = dict(zip(numbered("noise", config), [group.noise for group in terms], strict=True))
        if noise_only:
            return outputs
        outputs |= zip(numbered("latent", config), [group.latent for group in terms], strict=True)
        return {**outputs, "kl_per_group": kl_per_group(terms)}

    shape = [batch_size, config.image_height, config.image_width, config.image_channels]
    inputs = {"image": tf.TensorSpec(shape, name="image"), **_specs(names, model.noise_shapes(batch_size))}
    return DeviceGraph("encode", inputs, encode)


def save_graph(model, graph, folder):
    """Writes a `DeviceGraph` made from an `InferenceModel` as a SavedModel."""
    module = tf.Module()
    module.model, module.function = model, tf.function(graph.function, autograph=False)
    signature = module.function.get_concrete_function(**graph.inputs)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, {graph.name: signature}, options)


def _specs(names, shapes):
    return {name: tf.TensorSpec(shape, name=name) for name, shape in zip(names, shapes, strict=True)}


def _outputs(config, params):
    return {"likelihood_params": params, mean_name(config): likelihood_mean(config, params)}


def mean_name(config):
    """Name of the output that holds the likelihood's mean, for a `ModelConfig`."""
    return "probabilities" if config.likelihood == "bernoulli" else "mean_image"


def likelihood_mean(config, params):
    """The likelihood's mean [B, H, W, C] in [0, 1], from likelihood parameters [B, H, W, P]."""
    if config.likelihood == "bernoulli":
        return tf.sigmoid(params)
    if config.likelihood == "normal":
        loc = BOUND * tf.tanh(channels(params, 0, config.image_channels) / BOUND)
        values = tf.clip_by_value(loc, -1.0, 1.0)
    else:
        values = _mixture_mean(params, config.image_channels)
    return (values + 1.0) / 2.0


def _mixture_mean(params, num_channels):
    """`LogisticMixtureLikelihood.mean` in [-1, 1]."""
    count = num_mixture_pieces(num_channels)
    size = params.shape[-1] // count
    pieces = [channels(params, index * size, (index + 1) * size) for index in range(count)]
    logits, means, _, coefficients = sort_mixture_pieces(pieces, num_channels)
    weights, ones = tf.nn.softmax(logits), tf.ones([1, 1, size, 1])

    def mixed(values):
        return tf.nn.conv2d(weights * values, ones, 1, "SAME")

    coefficients, finished = iter(coefficients), []
    for mean in means:
        value = mixed(mean)
        for before in finished:
            value += mixed(tf.tanh(next(coefficients))) * before
        finished.append(tf.clip_by_value(value, -1.0, 1.0))
    return tf.concat(finished, axis=-1)
