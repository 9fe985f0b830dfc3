"""Small TFLite decoders, written in a form that a GPU delegate accepts and in one that it rejects."""

import os
import tempfile

import numpy as np
import tensorflow as tf

_RNG = np.random.default_rng(1)
_START = _RNG.bit_generator.state
SHAPES = {"noise_00": [1, 4, 4, 2], "noise_01": [1, 8, 8, 2], "temperature": [1]}


def convert(function, half=False, **shapes):
    """Bytes of the .tflite file of a function of float32 tensors that returns one or a dict; signature `sample`."""

    def named(**tensors):
        outputs = function(**tensors)
        return outputs if isinstance(outputs, dict) else {"out": outputs}

    module = tf.Module()
    module.call = tf.function(named)
    _RNG.bit_generator.state = _START  # the same constants whatever was converted before
    specs = {name: tf.TensorSpec(shape, tf.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "saved")
        tf.saved_model.save(module, saved, signatures={"sample": module.call.get_concrete_function(**specs)})
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["sample"])
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def constant(*shape):
    """Random numbers of the magnitude of a kernel of this shape."""
    return tf.constant(_RNG.standard_normal(shape) / np.sqrt(np.prod(shape[:-1])), tf.float32)


def conv(x, filters, size=1, strides=1):
    return tf.nn.conv2d(x, constant(size, size, x.shape[-1], filters), strides, "SAME") + constant(filters)


def _soft_clamp(x):
    return 5.0 * tf.tanh(x / 5.0)


def _squeeze_excite(x):
    gate = tf.nn.relu(conv(tf.reduce_mean(x, [1, 2], keepdims=True), 2))
    return x * tf.sigmoid(conv(gate, x.shape[-1]))


def good(noise_00, noise_01, temperature):
    """Two groups at 4 x 4 and 8 x 8 with every idiom of the real decoder: 16 ops of the list."""
    x = tf.concat([constant(1, 4, 4, 6), temperature * noise_00], -1)
    x = tf.nn.depthwise_conv2d(conv(x, 8), constant(5, 5, 8, 1), [1, 1, 1, 1], "SAME")
    x = x * tf.sigmoid(x)
    x = x + 0.1 * _squeeze_excite(x)
    skip = tf.compat.v1.image.resize_bilinear(x, [8, 8], align_corners=True)
    x = conv(tf.image.resize(x, [8, 8], "nearest"), 8, 3) + conv(skip, 8)
    latent = _soft_clamp(conv(x, 2)) + tf.exp(_soft_clamp(conv(x, 2))) * temperature * noise_01
    params = conv(tf.nn.elu(conv(tf.concat([x, latent], -1), 8)), 6) * 0.1
    weights = tf.nn.softmax(params[..., :2])
    mean = tf.nn.conv2d(weights * tf.clip_by_value(params[..., 2:4], -1.0, 1.0), tf.ones([1, 1, 2, 1]), 1, "VALID")
    return {"likelihood_params": params, "mean_image": (mean + 1.0) / 2.0}


def naive(noise_00, noise_01, temperature):
    """The same as one would write it for a CPU."""
    x = tf.concat([tf.tile(constant(1, 4, 4, 6), [2, 1, 1, 1]), tf.tile(temperature * noise_00, [2, 1, 1, 1])], -1)
    x = conv(tf.repeat(tf.repeat(conv(x, 8), 2, 1), 2, 2), 8)
    loc, log_scale = tf.split(conv(x, 4), 2, -1)
    latent = loc + tf.exp(log_scale) * temperature * noise_01
    params = conv(tf.concat([x, latent], -1), 6)
    heads = tf.reshape(params, [2, 8, 8, 3, 2])
    chosen = tf.one_hot(tf.argmax(heads[..., 0, :], -1), 2)
    mean = tf.reduce_sum(chosen * tf.gather(heads, 1, axis=3), -1)
    return {"likelihood_params": params, "mean_image": (mean + 1.0) / 2.0}
