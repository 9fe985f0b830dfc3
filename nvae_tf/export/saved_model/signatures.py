"""The signatures of a served model, with their inputs, outputs and checks.

Dimension 0 is the batch everywhere, and a row's result depends only on that row, because a server merges the rows of
different requests, pads them and splits the result. Noise is keyed by the row's own seed.
"""

import math

import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.export.saved_model.decode_in_graph import DECODING, MAX_PIXELS, decode_files, require, to_bytes, to_model
from nvae_tf.hierarchy import LATENTS, PIXELS
from nvae_tf.inference.groups import kl_per_group
from nvae_tf.models.noise import keyed_noise, row_keys, slerp
from nvae_tf.models.pixels import draw_pixels


class Signatures(tf.Module):
    """The functions of a served model.

    sample              samples of the prior from seeds, at a temperature
    decode              likelihood parameters and mean image from given noise
    encode              latents of files at the posteriors' means, their prior noise for `decode`, and the KL there
    encode_pixels       the same for uint8 images
    encode_floats       the same for images in [0, 1], which are rounded to 8 bits
    reconstruct         images of files from a posterior sample
    interpolate         images between two files, with `alpha` from 0 to 1
    interpolate_seeds   images between two seeds
    score               NELBO in nats and bits per dimension, and the KL of each group in nats

    Models of 1 or 3 channels read image files and write PNG; others do not have the signatures that take files.

    Args:
        model: `InferenceModel`.
        binarize: whether the model was trained on binary images. Default False.
        pixels: images are the likelihood's `"mean"` or a `"sample"` of it. Default `"mean"`.

    Attributes:
        functions: `{signature: tf.function}`, each with a fixed input signature and a dict of outputs.
        image_rules: how images are read, for the model card.
    """

    def __init__(self, model, binarize=False, pixels="mean"):
        super().__init__(name="signatures")
        self.model, self._binarize, self._pixels = model, binarize, pixels
        self._config = config = model.model_config
        self._size = [size - 2 * config.padding for size in (config.image_height, config.image_width)]
        self._has_files = config.image_channels in (1, 3)
        self._noise_names = hierarchy.numbered("noise", config)
        noise = [tf.TensorSpec(shape, tf.float32) for shape in model.noise_shapes(None)]
        seen = tf.TensorSpec([None, config.image_height, config.image_width, config.image_channels], tf.float32)
        rows = tf.TensorSpec([None], tf.float32)
        # Traced once and called by all signatures.
        self._generate = _function(model.generate, [noise, rows])
        self._posterior_means = _function(self._infer_means, [seen])
        self._posterior_sample = _function(self._infer_samples, [seen, noise, rows])
        self.functions = self._make()
        self.image_rules = {
            "height": self._size[0],
            "width": self._size[1],
            "channels": config.image_channels,
            "bit_depth": config.bit_depth,
            "padding": config.padding,
            "binarized": binarize,
            "max_pixels": MAX_PIXELS,
            "decoding": DECODING if self._has_files else "none",
        }

    @property
    def specs(self):
        """`{signature: {"inputs": {name: TensorSpec}, "outputs": {name: TensorSpec}}}`."""
        result = {}
        for name, function in self.functions.items():
            outputs = {key: tf.TensorSpec.from_tensor(value) for key, value in function.structured_outputs.items()}
            result[name] = {"inputs": dict(function.structured_input_signature[1]), "outputs": outputs}
        return result

    def _make(self):
        seed, number, file = (tf.TensorSpec([None], dtype) for dtype in (tf.int64, tf.float32, tf.string))
        alpha, temperature = {"alpha": number}, {"temperature": number}
        shape = [None, *self._size, self._config.image_channels]
        image, floats = tf.TensorSpec(shape, tf.uint8), tf.TensorSpec(shape, tf.float32)
        noise = dict(zip(self._noise_names, [tf.TensorSpec(s) for s in self.model.noise_shapes(None)], strict=True))
        made = {
            "sample": (self._sample, {"seed": seed, **temperature}),
            "decode": (self._decode, {**noise, **temperature}),
            "encode_pixels": (self._encoded, {"image": image}),
            "encode_floats": (self._encode_floats, {"image": floats}),
            "interpolate_seeds": (self._interpolate_seeds, {"seed_a": seed, "seed_b": seed, **alpha, **temperature}),
            "score": (self._score, {"image": image, "seed": seed}),
        }
        if self._has_files:
            made |= {
                "encode": (self._encode, {"image_bytes": file}),
                "reconstruct": (self._reconstruct, {"image_bytes": file, "seed": seed, **temperature}),
                "interpolate": (self._interpolate, {"image_bytes_a": file, "image_bytes_b": file, **alpha}),
            }
        return {name: _named_function(name, function, specs) for name, (function, specs) in made.items()}

    # The signatures: functions from named tensors to named tensors.

    def _sample(self, seed, temperature):
        temperature = _positive(temperature)
        return self._pictures(self._generate(self._noise(seed), temperature), seed)

    def _decode(self, temperature, **noise):
        noise = [_finite(name, noise[name]) for name in self._noise_names]
        params = self._generate(noise, _positive(temperature))
        return {"likelihood_params": params, "mean_image": draw_pixels(self.model, params)}

    def _encode(self, image_bytes):
        return self._encoded(self._read("image_bytes", image_bytes))

    def _encode_floats(self, image):
        inside = (image >= 0.0) & (image <= 1.0)  # false for NaN
        return self._encoded(to_bytes(_checked("image", image, inside, "expected values in [0, 1]")))

    def _reconstruct(self, image_bytes, seed, temperature):
        temperature = _positive(temperature)
        images = self._read("image_bytes", image_bytes)
        params, _ = self._posterior_sample(self._seen(images), self._noise(seed), temperature)
        return self._pictures(params, seed)

    def _interpolate(self, image_bytes_a, image_bytes_b, alpha):
        alpha = _fraction(alpha)
        ends = (("image_bytes_a", image_bytes_a), ("image_bytes_b", image_bytes_b))
        images = tf.concat([self._read(name, files) for name, files in ends], axis=0)
        ends = [tf.split(noise, 2) for noise in self._posterior_means(self._seen(images))[1]]
        params = self._generate([slerp(one, other, alpha) for one, other in ends], tf.ones_like(alpha))
        return self._pictures(params, tf.zeros_like(alpha, tf.int64))

    def _interpolate_seeds(self, seed_a, seed_b, alpha, temperature):
        alpha, temperature = _fraction(alpha), _positive(temperature)
        ends = zip(self._noise(seed_a), self._noise(seed_b), strict=True)
        params = self._generate([slerp(one, other, alpha) for one, other in ends], temperature)
        return self._pictures(params, seed_a)

    def _score(self, image, seed):
        seen, noise = self._seen(image), self._noise(seed)
        params, kl = self._posterior_sample(seen, noise, tf.ones(tf.shape(seed)))
        nelbo = tf.reduce_sum(kl, axis=1) - self.model.likelihood(params).log_prob(seen)
        dimensions = hierarchy.num_outputs(self._config) * math.log(2.0)
        return {"nelbo": nelbo, "bits_per_dim": nelbo / dimensions, "kl_per_group": kl}

    # Shared by several signatures.

    def _infer_means(self, images):
        """Latent and noise of each group, and the KL of the groups [B, G]."""
        terms = self.model.infer(images)[1]
        return [group.latent for group in terms], [group.noise for group in terms], kl_per_group(terms)

    def _infer_samples(self, images, noise, temperature):
        """Likelihood parameters, and the KL of the groups [B, G]."""
        params, terms = self.model.infer(images, noise, temperature)
        return params, kl_per_group(terms)

    def _noise(self, seed):
        keys = row_keys(seed, tf.zeros_like(seed), purpose=LATENTS)
        return keyed_noise(self.model.noise_shapes(tf.shape(seed)[0]), keys)

    def _read(self, name, files):
        return decode_files(name, files, *self._size, self._config.image_channels)

    def _seen(self, images):
        return to_model(images, self._config, self._binarize)

    def _encoded(self, image):
        latents, noise, kl = self._posterior_means(self._seen(image))
        latents = zip(hierarchy.numbered("latent", self._config), latents, strict=True)
        return {**dict(latents), **dict(zip(self._noise_names, noise, strict=True)), "kl_per_group": kl}

    def _pictures(self, params, seed):
        keys = row_keys(seed, tf.zeros_like(seed), purpose=PIXELS)
        images = to_bytes(draw_pixels(self.model, params, self._pixels, keys))
        return {"image": images, "png_bytes": tf.io.encode_png(images)} if self._has_files else {"image": images}


def _function(function, specs):
    return tf.function(function, input_signature=specs, autograph=False)


def _named_function(name, function, specs):
    """A concrete function of named inputs, which checks that all have the same number of rows."""

    def checked(**inputs):
        # The C++ runtime does not check its inputs against the signature.
        inputs = {key: tf.ensure_shape(value, specs[key].shape, name=key) for key, value in inputs.items()}
        sizes = tf.stack([tf.shape(value)[0] for value in inputs.values()])
        same = require(tf.equal(sizes, sizes[0]), f"{', '.join(inputs)}: expected equally many rows", sizes)
        with tf.control_dependencies([same]):
            return function(**{key: tf.identity(value) for key, value in inputs.items()})

    checked.__name__ = name
    named = {key: tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in specs.items()}
    return tf.function(checked, autograph=False).get_concrete_function(**named)


def _checked(name, values, condition, expected):
    first = tf.reshape(values, [-1])[:16]  # as many as a message can show
    with tf.control_dependencies([require(condition, f"{name}: {expected}", first)]):
        return tf.identity(values)


def _positive(temperature):
    inside = (temperature > 0.0) & (temperature < math.inf)
    return _checked("temperature", temperature, inside, "expected a positive, finite number in every row")


def _fraction(alpha):
    return _checked("alpha", alpha, (alpha >= 0.0) & (alpha <= 1.0), "expected a number from 0 to 1 in every row")


def _finite(name, values):
    return _checked(name, values, tf.math.is_finite(values), "expected finite numbers")
