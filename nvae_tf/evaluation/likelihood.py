"""Likelihood of images: NELBO and the importance-weighted bound (arXiv 2007.03898, section 4)."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.replicas import pad_rows, round_up, run_on_replicas
from nvae_tf.models.noise import keyed_noise, row_keys
from nvae_tf.models.output import stack_channels
from nvae_tf.objectives.kl import ACTIVE_KL


@dataclasses.dataclass(frozen=True, slots=True)
class LikelihoodResult:
    """Likelihood of a set of images; every mean is over the images, and over the samples of each.

    Attributes:
        num_images: number of images.
        num_samples: K, the number of posterior samples for each image.
        num_outputs: number of values in an image without padding, H * W * C.
        nelbo: -ELBO, nats: `kl - reconstruction`.
        nelbo_standard_error: standard error of `nelbo` over images, nats; NaN for a single image.
        nll_bound: importance-weighted upper bound on -log p(x) with K samples, nats; tighter for larger K (Burda et
            al., 2016, arXiv 1509.00519).
        nll_bound_standard_error: standard error of `nll_bound` over images, nats; NaN for a single image.
        reconstruction: log p(x | z), nats.
        kl: KL of all groups, nats.
        kl_per_group: KL of each group in generation order, list of G numbers, nats.
        active_units: list of G counts: latent channels whose KL, averaged over the images, exceeds `ACTIVE_KL`.
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


# The model is an argument, not captured: the function keeps one trace for each model and batch shape, also between
# evaluations during training, and holds no reference that would keep a model alive.
@tf.function(autograph=False)
def _score(model, images, indices, num_samples, at_once, seed):
    """Mean over K samples of log p(x|z) [B] and of the KL per channel [B, G, C], and the bound [B].

    What does not depend on the sample is computed once, outside the loop. `at_once` samples of every image pass through
    the decoder together, and the logsumexp of the weights is accumulated, so that memory does not grow with K.
    """
    batch_size = images.shape[0]
    shapes = model.noise_shapes(batch_size * at_once)
    features = model.encode(images)
    # Rows: the samples of the first image, of the second, ...
    images, indices, *features = [tf.repeat(part, at_once, axis=0) for part in (images, indices, *features)]

    def by_sample(rows):  # [B * at_once, ...] -> [B, at_once, ...]
        return tf.reshape(rows, [batch_size, at_once, *rows.shape[1:]])

    def draw(first, log_sum, reconstruction, kl):
        samples = first + tf.range(at_once)
        counts = tf.cast(samples < num_samples, tf.float64)  # the last pass may have more samples than are left
        keys = row_keys(seed, indices, tf.tile(samples, [batch_size]))
        params, groups = model.infer_features(features, keyed_noise(shapes, keys))
        log_likelihood = tf.cast(model.likelihood(params).log_prob(images), tf.float64)
        # The terms are large and nearly cancel: sums in float32 would lose digits.
        log_p = tf.add_n([tf.cast(group.log_p, tf.float64) for group in groups])
        log_q = tf.add_n([tf.cast(group.log_q, tf.float64) for group in groups])
        log_weight = by_sample(log_likelihood + log_p - log_q) + tf.math.log(counts)
        log_sum = tf.reduce_logsumexp(tf.concat([log_sum[:, tf.newaxis], log_weight], axis=1), axis=1)
        kl_rows = tf.cast(stack_channels([group.kl_per_channel for group in groups]), tf.float64)
        return (
            first + at_once,
            log_sum,
            reconstruction + tf.linalg.matvec(by_sample(log_likelihood), counts),
            kl + tf.einsum("bkgc,k->bgc", by_sample(kl_rows), counts),
        )

    start = (
        tf.constant(0),
        tf.fill([batch_size], tf.constant(-math.inf, tf.float64)),
        tf.zeros([batch_size], tf.float64),
        tf.zeros([batch_size, len(shapes), max(shape[-1] for shape in shapes)], tf.float64),
    )
    # One pass at a time: several would each hold their activations, and the convolutions that grappler fuses with
    # an addition on CPUs with oneDNN are not safe to run twice at the same time (wrong numbers, crashes).
    _, log_sum, reconstruction, kl = tf.while_loop(
        lambda first, *_: first < num_samples, draw, start, parallel_iterations=1
    )
    count = tf.cast(num_samples, tf.float64)
    return reconstruction / count, kl / count, tf.math.log(count) - log_sum


def score_images(model, images, positions, num_samples=1, seed=0, max_rows=None, strategy=None):
    """Scores a batch of images.

    Args:
        model, num_samples, seed, strategy: see `evaluate`.
        images: float32 [B, H, W, C] in [0, 1]; B is a multiple of the number of replicas.
        positions: int64 [B], positions of the images in their data set, which determine the noise with the seed.
        max_rows: see `evaluate`.

    Returns:
        float64 arrays, nats: mean over the samples of log p(x|z) [B] and of the KL per channel [B, G, C]; bound [B].
    """
    at_once = min(max((max_rows or len(images)) // len(images), 1), num_samples)
    settings = (tf.constant(num_samples), at_once, tf.constant(seed, tf.int64))
    return run_on_replicas(strategy or tf.distribute.get_strategy(), _score, model, [images, positions], *settings)


def _standard_error(values):
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


class Scores:
    """Scores of the images evaluated so far; `Scores(scores.arrays)` resumes from stored ones.

    Attributes:
        arrays: for each image, nats [N], `reconstruction`, `nelbo` and `nll_bound`; and `kl_sum` [G, C].
    """

    def __init__(self, arrays=None):
        empty = {name: np.zeros(0) for name in ("reconstruction", "nelbo", "nll_bound")}
        self.arrays = arrays or {**empty, "kl_sum": np.zeros(())}

    @property
    def num_images(self):
        return len(self.arrays["nelbo"])

    def add(self, reconstruction, kl, bound):
        """Adds images: log p(x|z) [B], KL [B, G, C] and bound [B], nats."""
        added = {"reconstruction": reconstruction, "nelbo": kl.sum(axis=(1, 2)) - reconstruction, "nll_bound": bound}
        self.arrays = {name: np.append(self.arrays[name], values) for name, values in added.items()} | {
            "kl_sum": self.arrays["kl_sum"] + kl.sum(axis=0)
        }


def evaluate(model, batches, num_samples=1, seed=0, progress=None, max_rows=None, scores=None, strategy=None):
    """Estimates the likelihood of images.

    ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)), the KL in closed form where the posterior has no flows; and

        log p(x) >= E[logsumexp_k(log p(x|z_k) + log p(z_k) - log q(z_k|x)) - log K].

    The noise depends only on (seed, position of the image, sample): batch size, replicas and `max_rows` change a
    result only by rounding.

    Args:
        model: `InferenceModel` or `UnfoldedModel`.
        batches: iterable of images [B, H, W, C] in [0, 1]; none larger than the first, smaller ones are padded.
        num_samples: K, the number of posterior samples for each image, below 2^24. Default 1.
        seed: seed of the noise, at least 0. Default 0.
        progress: called with the number of images evaluated after each batch; None for no calls. Default None.
        max_rows: images times samples that pass through the decoder at once, which bounds the memory; None for the
            batch size. Default None.
        scores: `Scores` of earlier images, to which those in `batches` are added; None to start afresh. Default None.
        strategy: `tf.distribute.Strategy` in whose scope the model was built, all its replicas in this process; None
            for one device. Default None.

    Returns:
        `LikelihoodResult`.

    Raises:
        ValueError: no images.
    """
    strategy = strategy or tf.distribute.get_strategy()
    scores, size = scores or Scores(), None
    for images in batches:
        images = np.asarray(images, np.float32)
        count = len(images)
        if size is None:
            size = round_up(count, strategy)
        positions = scores.num_images + np.arange(size, dtype=np.int64)
        parts = score_images(model, pad_rows(images, size), positions, num_samples, seed, max_rows, strategy)
        scores.add(*(part[:count] for part in parts))
        if progress is not None:
            progress(scores.num_images)
    if not scores.num_images:
        raise ValueError("batches: expected at least one image. Received: none")
    return _result(model, num_samples, scores.arrays)


def _result(model, num_samples, arrays):
    reconstruction, nelbo, bound = arrays["reconstruction"], arrays["nelbo"], arrays["nll_bound"]
    kl_per_channel = arrays["kl_sum"] / len(nelbo)
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
