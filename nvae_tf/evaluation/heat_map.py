"""A matrix as an image."""

import numpy as np

# Dark to light, equally spaced; readable in grey and by colour-blind people.
_COLORS = np.array([(13, 8, 45), (92, 26, 110), (187, 55, 84), (243, 125, 49), (250, 220, 120), (252, 255, 230)])
_MAX_COLUMNS = 64


def heat_map(values, cell=16):
    """Draws a matrix as coloured cells by the square root of the values, 0 dark and the largest light.

    Args:
        values: [rows, columns]; negative values and NaN count as 0. Of a wider matrix 64 equally spaced columns are
            drawn.
        cell: side of a cell in pixels. Default 16.

    Returns:
        uint8 [rows * cell, columns * cell, 3].
    """
    values = np.nan_to_num(np.maximum(np.asarray(values, np.float64), 0.0))
    if values.shape[1] > _MAX_COLUMNS:
        values = values[:, np.linspace(0, values.shape[1] - 1, _MAX_COLUMNS).round().astype(int)]
    level = np.sqrt(values / max(values.max(), 1e-12)) * (len(_COLORS) - 1)
    places = np.arange(len(_COLORS))
    image = np.stack([np.interp(level, places, _COLORS[:, channel]) for channel in range(3)], axis=-1)
    return np.rint(image).astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
