"""Pictures from likelihood parameters."""

import tensorflow as tf

PIXEL_CHOICES = ("mean", "sample")


def crop_padding(images, padding):
    """Images [B, H, W, C] without the padding on every side."""
    return images[:, padding : images.shape[1] - padding, padding : images.shape[2] - padding, :]


def draw_pixels(model, params, pixels="mean", keys=None):
    """Means or samples of p(x | z), without padding.

    Args:
        model: `NVAE` or its `InferenceModel`.
        params: likelihood parameters [B, H, W, P].
        pixels: `"mean"` or `"sample"`. Default `"mean"`.
        keys: int64 [B, 2], `row_keys` of the sample's noise. Default None.

    Returns:
        float32 [B, h, w, C] in [0, 1].
    """
    if pixels == "mean":
        images = model.likelihood(params).mean()
    else:
        # Draw row by row, so that the pixels of a row do not depend on its batch.
        shape = [size for size in params.shape[1:3]] + [model.model_config.image_channels]
        images = tf.map_fn(
            lambda row: model.likelihood(row[0][tf.newaxis]).sample(seed=row[1])[0],
            (params, keys),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
    return crop_padding(images, model.model_config.padding)
