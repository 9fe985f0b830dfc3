"""Likelihood of images: NELBO and the importance-weighted bound (arXiv 2007.03898, section 4)."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.kernels import shared_kernels
from nvae_tf.models.nvae import draw_noise
from nvae_tf.objectives.kl import ACTIVE_KL


@dataclasses.dataclass(frozen=True, slots=True)
class LikelihoodResult:
    """Likelihood of a set of images; every mean is over images, and over the samples of each where it has several.

    Attributes:
        num_images: images seen.
        num_samples: K, posterior samples for each image.
        num_outputs: image values that count, H * W * C without padding.
        nelbo: -ELBO, nats: `kl - reconstruction`.
        nelbo_standard_error: of `nelbo` over images, nats; NaN for a single image.
        nll_bound: importance-weighted upper bound on -log p(x) with K samples, nats: positive like
            `nelbo`, and tighter the larger K (Burda et al., 2016, arXiv 1509.00519).
        nll_bound_standard_error: of that over images, nats; NaN for a single image.
        reconstruction: log p(x | z), nats.
        kl: KL of all groups, nats.
        kl_per_group: KL of each group in generation order, list of G numbers, nats.
        active_units: list of G counts: latent channels whose KL, averaged over images, exceeds 0.01 nats.
    """

    num_images: int
    num_samples: int
    num_outputs: int
    nelbo: float
    nelbo_standard_error: float
    nll_bound: float
    nll_bound_standard_error: float
    reconstruction: float
    kl: float
    kl_per_group: list
    active_units: list

    @property
    def nelbo_bits_per_dim(self):
        """`nelbo` in bits per dimension."""
        return self._bits_per_dim(self.nelbo)

    @property
    def bound_bits_per_dim(self):
        """`nll_bound` in bits per dimension."""
        return self._bits_per_dim(self.nll_bound)

    def _bits_per_dim(self, nats):
        return nats / (self.num_outputs * math.log(2.0))


def sample_seed(seed, batch_index, sample):
    """Seed, int tensor [2], of the noise of one posterior sample of one batch; the same in every process."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)])
    for counter in (batch_index, sample):
        # A named algorithm: the default may differ between kinds of device.
        key = tf.random.fold_in(key, tf.cast(counter, tf.int64), alg="philox")
    return key


# The model is an argument, not captured: the function keeps one trace for each model and batch shape, also between
# evaluations during training, and holds no reference that would keep a model alive.
@tf.function(autograph=False)
def _score(model, images, num_samples, seed, batch_index):
    """Mean over K samples of log p(x|z) [B] and of the KL per channel [B, G, latent_channels], and the bound [B].

    Everything that does not depend on the sample is computed once, outside the loop; in the loop the weights'
    logsumexp is kept as a running one, so that memory does not grow with K.
    """
    batch_size = tf.shape(images)[0]
    shapes = model.noise_shapes(batch_size)
    channels = model.model_config.latent_channels
    with shared_kernels(model.kernel_stacks):
        features = model.encoder(images, training=False)

        def draw(sample, log_sum, reconstruction, kl):
            noise = draw_noise(shapes, sample_seed(seed, batch_index, sample))
            params, terms = model.decoder.infer(features, noise, training=False)
            log_likelihood = tf.cast(model.likelihood(params).log_prob(images), tf.float64)
            # Each term is large and they nearly cancel: in float32 their sum would lose digits.
            log_p = tf.add_n([tf.cast(group.log_p, tf.float64) for group in terms])
            log_q = tf.add_n([tf.cast(group.log_q, tf.float64) for group in terms])
            log_sum = tf.reduce_logsumexp(tf.stack([log_sum, log_likelihood + log_p - log_q]), axis=0)
            kl_sample = tf.cast(tf.stack([group.kl_per_channel for group in terms], axis=1), tf.float64)
            return sample + 1, log_sum, reconstruction + log_likelihood, kl + kl_sample

        start = (
            tf.constant(0),
            tf.fill([batch_size], tf.constant(-math.inf, tf.float64)),
            tf.zeros([batch_size], tf.float64),
            tf.zeros([batch_size, len(shapes), channels], tf.float64),
        )
        # One sample at a time: several at once would each hold their activations, and the convolutions that grappler
        # fuses with an addition on CPUs with oneDNN are not safe to run twice at the same time (wrong numbers, crashes).
        _, log_sum, reconstruction, kl = tf.while_loop(
            lambda sample, *_: sample < num_samples, draw, start, parallel_iterations=1
        )
    count = tf.cast(num_samples, tf.float64)
    return reconstruction / count, kl / count, tf.math.log(count) - log_sum


def _pad(images, size):
    """[size, H, W, C]: images and zeros after them; the model treats every image on its own."""
    return np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))


def _standard_error(values):
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def evaluate(model, batches, num_samples=1, seed=0, progress=None):
    """Estimates the likelihood of images.

    ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)), the KL in closed form where the posterior has no flows; and

        log p(x) >= E[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K].

    The noise depends on (seed, index of the batch, sample) alone, so that a result is the same in every process.

    Args:
        model: `NVAE`.
        batches: iterable of images [B, H, W, C] in [0, 1]; none larger than the first, smaller ones are padded.
        num_samples: K, posterior samples for each image. Default 1.
        seed: of the noise, at least 0. Default 0.
        progress: called with the number of images done after each batch, or None. Default None.

    Returns:
        `LikelihoodResult`.

    Raises:
        ValueError: no images, a batch larger than the first, or `num_samples` below 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: expected at least 1. Received: {num_samples}")
    reconstructions, nelbos, bounds, batch_size, kl_sum = [], [], [], None, 0.0
    num_images = 0
    for index, images in enumerate(batches):
        images = np.asarray(images, np.float32)
        count = len(images)
        batch_size = batch_size or count
        if not 0 < count <= batch_size:
            raise ValueError(f"batches[{index}]: expected 1 to {batch_size} images, as the first. Received: {count}")
        scores = _score(
            model,
            tf.constant(_pad(images, batch_size)),
            tf.constant(num_samples),
            tf.constant(seed, tf.int64),
            tf.constant(index, tf.int64),
        )
        reconstruction, kl, bound = (score.numpy()[:count] for score in scores)
        reconstructions.append(reconstruction)
        nelbos.append(kl.sum(axis=(1, 2)) - reconstruction)
        bounds.append(bound)
        kl_sum = kl_sum + kl.sum(axis=0)
        num_images += count
        if progress is not None:
            progress(num_images)
    if not num_images:
        raise ValueError("batches: expected at least one image. Received: none")
    return _result(model, num_samples, map(np.concatenate, (reconstructions, nelbos, bounds)), kl_sum / num_images)


def _result(model, num_samples, per_image, kl_per_channel):
    reconstruction, nelbo, bound = per_image
    return LikelihoodResult(
        num_images=len(nelbo),
        num_samples=num_samples,
        num_outputs=hierarchy.num_outputs(model.model_config),
        nelbo=float(nelbo.mean()),
        nelbo_standard_error=_standard_error(nelbo),
        nll_bound=float(bound.mean()),
        nll_bound_standard_error=_standard_error(bound),
        reconstruction=float(reconstruction.mean()),
        kl=float(kl_per_channel.sum()),
        kl_per_group=kl_per_channel.sum(axis=1).tolist(),
        active_units=(kl_per_channel > ACTIVE_KL).sum(axis=1).tolist(),
    )
