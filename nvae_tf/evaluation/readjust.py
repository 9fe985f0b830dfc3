"""Batch-norm statistics for sampling at a temperature (arXiv 2007.03898, appendix A)."""

import numpy as np
import tensorflow as tf

from nvae_tf.layers.kernels import shared_kernels
from nvae_tf.models.noise import group_temperatures, keyed_noise, row_keys

_CHECK_EVERY = 50


@tf.function(autograph=False)
def _generate(model, indices, temperatures, seed, kernels):
    noise = keyed_noise(model.noise_shapes(tf.shape(indices)[0]), row_keys(seed, indices))
    with shared_kernels(model.kernel_stacks, kernels):
        model.generate(noise, temperature=tf.unstack(temperatures), training=True)


def statistics_variables(model):
    """`{name: variable}` of the running means and variances of the model's batch norms, in their order."""
    return {
        f"{index:04}/{part}": getattr(layer, part)
        for index, layer in enumerate(model.batch_norms)
        for part in ("moving_mean", "moving_variance")
    }


def assign_statistics(model, arrays):
    """Assigns to a model the statistics that `readjust` computed for it."""
    for name, variable in statistics_variables(model).items():
        variable.assign(arrays[name])


def readjust(model, temperature, num_batches=500, batch_size=16, seed=0, progress=None):
    """Computes batch-norm statistics for samples of the prior at a temperature, in place of those of the posterior.

    Samples are drawn with batch norm in training mode, with its momentum of 0.95, which updates the statistics of the
    decoder. The model itself is unchanged when this returns or raises.

    Args:
        model: `NVAE`.
        temperature: factor of every prior's scale, > 0.
        num_batches: number of batches to draw. Default 500.
        batch_size: number of images in each batch. Default 16.
        seed: seed of the noise. Default 0.
        progress: called with the number of images drawn after each batch; None for no calls. Default None.

    Returns:
        `{name: float32 array}` for `assign_statistics`.

    Raises:
        ValueError: the model has no batch norm, a temperature is not positive, or the statistics are not finite.
    """
    if not model.batch_norms:
        raise ValueError("readjust: expected a model with batch norm. Received: one without")
    temperatures = tf.constant(group_temperatures(temperature, model.model_config), tf.float32)
    key = tf.constant(seed, tf.int64)
    variables, kernels = statistics_variables(model), [stack.effective() for stack in model.kernel_stacks]
    before = {name: variable.numpy() for name, variable in variables.items()}
    try:
        for batch in range(num_batches):
            first = batch * batch_size
            _generate(model, tf.range(first, first + batch_size, dtype=tf.int64), temperatures, key, kernels)
            if batch % _CHECK_EVERY == 0 or batch == num_batches - 1:
                _check_finite(variables, batch)
            if progress is not None:
                progress(first + batch_size)
        return {name: variable.numpy() for name, variable in variables.items()}
    finally:
        assign_statistics(model, before)


def _check_finite(variables, batch):
    wrong = [name for name, variable in variables.items() if not np.isfinite(variable.numpy()).all()]
    if wrong:
        raise ValueError(
            f"batch-norm statistics: expected finite ones. Received: {len(wrong)} that are not, {wrong[0]} first, "
            f"after {batch + 1} batches; a lower temperature may help"
        )
