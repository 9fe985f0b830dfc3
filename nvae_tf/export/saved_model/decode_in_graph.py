"""Reads image files and pixels inside the graph, where a wrong input fails with its name in the message."""

import tensorflow as tf

MAX_PIXELS = 4096 * 4096  # a few bytes may claim any size, so larger ones are refused before memory is allocated
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_HEADER_BYTES = 33  # the mark and the first chunk, which holds the size
_PNG_KIND, _PNG_RGB = 25, 2  # place of the colour type: 0 grey, 2 RGB, 3 palette, 4 and 6 grey and RGB with alpha

DECODING = (
    f"PNG or JPEG of at most {MAX_PIXELS} pixels. Of 16 bits the high byte counts, transparency is laid over white, "
    "grey is repeated for RGB, colour becomes grey as 0.299 R + 0.587 G + 0.114 B; EXIF orientation is not read. An "
    "image of another size is cropped to the aspect ratio in the middle and resized (bilinear, antialiased)."
)


def require(condition, message, received):
    """An op that fails as INVALID_ARGUMENT, with a message and a tensor, unless `condition` holds everywhere."""
    return tf.debugging.Assert(tf.reduce_all(condition), [f"{message}. Received:", received], summarize=16)


def decode_files(name, files, height, width, channels):
    """Decodes image files, string [B], to uint8 [B, height, width, channels] as `DECODING` says.

    Channels are 1 or 3; messages contain the name of the input.
    """
    with tf.name_scope(name):
        return tf.map_fn(
            lambda data: _fit(_decode(name, data, channels), height, width),
            files,
            fn_output_signature=tf.TensorSpec([height, width, channels], tf.uint8),
        )


def _decode(name, data, channels):
    start = tf.strings.substr(data, 0, len(_PNG))
    is_png, is_jpeg = tf.equal(start, _PNG), tf.equal(tf.strings.substr(data, 0, len(_JPEG)), _JPEG)
    whole = is_jpeg | (is_png & (tf.strings.length(data) >= _PNG_HEADER_BYTES))
    known = require(whole, f"{name}: expected a PNG or JPEG file. Received bytes", tf.strings.length(data))
    with tf.control_dependencies([known]):
        size = tf.cond(is_png, lambda: _png_size(data), lambda: _jpeg_size(name, data))
    pixels = tf.reduce_prod(size)
    fits = tf.reduce_all((size > 0) & (size <= MAX_PIXELS)) & (pixels <= MAX_PIXELS)
    small = require(fits, f"{name}: expected an image of 1 to {MAX_PIXELS} pixels. Received size", size)
    with tf.control_dependencies([small]):
        rgb = tf.cond(is_png, lambda: _png(name, data), lambda: _jpeg(name, data))
    return _to_grey(rgb) if channels == 1 else rgb


def _png_size(data):
    return tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False), tf.int64)


def _jpeg_size(name, data):
    return tf.cast(tf.io.extract_jpeg_shape(data, name=name)[:2], tf.int64)


def _png(name, data):
    # The decoder's own error does not name the input, but contains the op's name.
    rgba = tf.io.decode_png(data, channels=4, name=name)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    # Grey and RGB have one transparent colour at most (tRNS). The alpha that the decoder gives all others is nearly
    # transparent for grey of fewer than 8 bits.
    kind = tf.io.decode_raw(tf.strings.substr(data, _PNG_KIND, 1), tf.uint8)[0]
    alpha = tf.where((kind <= _PNG_RGB) & (alpha > 0), tf.constant(255, tf.uint8), alpha)
    # Most images are opaque and are spared the memory of wider numbers.
    return tf.cond(tf.reduce_all(alpha == 255), lambda: colour, lambda: _over_white(colour, alpha))


def _over_white(colour, alpha):
    colour, alpha = tf.cast(colour, tf.int32), tf.cast(alpha, tf.int32)
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _jpeg(name, data):
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", name=name)


def _to_grey(rgb):
    # The weights of ITU-R 601 in 16 bits, as in Pillow.
    parts = tf.cast(rgb, tf.int32) * [19595, 38470, 7471]
    return tf.cast(tf.bitwise.right_shift(tf.reduce_sum(parts, -1, keepdims=True) + 32768, 16), tf.uint8)


def _fit(image, height, width):
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    wanted = tf.round(tf.stack([size[1] * height / width, size[0] * width / height]))
    kept = tf.cast(tf.maximum(tf.minimum(size, wanted), 1.0), tf.int32)
    first = (tf.shape(image)[:2] - kept) // 2
    image = tf.slice(image, tf.concat([first, [0]], 0), tf.concat([kept, [-1]], 0))
    # An image of the required size stays unchanged.
    resized = tf.image.resize(image, (height, width), antialias=True)
    return to_bytes(resized / 255.0)


def to_bytes(images):
    """Rounds float images in [0, 1] to uint8."""
    return tf.cast(tf.round(tf.clip_by_value(images, 0.0, 1.0) * 255.0), tf.uint8)


def to_model(images, config, binarize):
    """Converts uint8 [B, H, W, C] to what the model sees, [B, Hp, Wp, C] in [0, 1] with its bit depth and padding.

    For a model that was trained on binary images (`binarize`), values of at least 128 become 1.
    """
    if binarize:
        values = tf.cast(images >= 128, tf.float32)
    else:
        levels = tf.bitwise.right_shift(images, tf.constant(8 - config.bit_depth, tf.uint8))
        values = tf.cast(levels, tf.float32) / (2.0**config.bit_depth - 1.0)
    sides = (config.padding, config.padding)
    return tf.pad(values, [(0, 0), sides, sides, (0, 0)]) if config.padding else values
