"""Checks inputs before they are sent: one wrong row fails a whole batch on the server, also for other clients."""

import os

import numpy as np

from nvae_tf.serving.protocol import InputError
from nvae_tf.serving.read_images import open_picture

_FINITE, _UNIT = ("finite numbers", np.isfinite), ("numbers in [0, 1]", lambda array: (array >= 0) & (array <= 1))
_POSITIVE = "positive, finite numbers", lambda array: np.isfinite(array) & (array > 0)
_RANGES = {"temperature": _POSITIVE, "alpha": _UNIT, "image": _UNIT}


def check_inputs(inputs, specs):
    """Converts the inputs of a request, `{name: array or list}`, to arrays of the dtypes of `{name: TensorSpec}`.

    Strings are a list or object array of bytes. Integers that fit become int64 and any floats float32; nothing else is
    converted.

    Raises:
        InputError: missing or unknown names; a wrong dtype, rank or shape; integers that int64 cannot hold; no rows, or
            different numbers of rows; a temperature that is not positive and finite; an alpha or a float image outside
            [0, 1]; other floats that are not finite; image bytes that are not a complete PNG or JPEG, or are a path.
    """
    if set(inputs) != set(specs):
        raise InputError(f"inputs: expected {sorted(specs)}. Received: {sorted(inputs)}")
    arrays = {name: _checked(name, inputs[name], spec) for name, spec in specs.items()}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        raise InputError(f"inputs: expected the same number of rows in each. Received: {rows}")
    return arrays


def _checked(name, value, spec):
    array = _strings(name, value) if spec.dtype == "string" else _numbers(name, value, spec.dtype)
    if array.shape[:1] == (0,):
        raise InputError(f"{name}: expected at least one row. Received: none")
    fits = array.ndim == len(spec.shape) and all(
        size in (None, received) for size, received in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("B" if size is None else str(size) for size in spec.shape)
        raise InputError(f"{name}: expected shape [{sizes}]. Received: {list(array.shape)}")
    if spec.dtype == "float32":
        expected, good = _RANGES.get(name, _FINITE)
        wrong = array[~good(array)]
        if wrong.size:
            raise InputError(f"{name}: expected {expected}. Received: {wrong.flat[0]}")
    if name.startswith("image_bytes"):
        for row, content in enumerate(array):
            open_picture(f"{name}, row {row}", content)
    return array


def _numbers(name, value, dtype):
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: expected {dtype}. Received: {error}") from error
    floats = dtype == "float32" and array.dtype.kind == "f"
    integers = array.dtype.kind in "iu" and np.dtype(dtype).kind in "iu" and np.can_cast(array.dtype, dtype)
    if not (floats or integers or array.size == 0):  # an empty list has no dtype of its own
        if np.dtype(dtype).kind in "iu":
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            # NumPy makes uint64, floats or objects of them.
            outside = [n for n in np.asarray(value, object).flat if isinstance(n, int) and not least <= n <= most]
            if outside:
                raise InputError(f"{name}: expected integers from {least} to {most}. Received: {outside[0]}")
        raise InputError(f"{name}: expected {dtype}. Received: {array.dtype}")
    return array.astype(dtype)


def _strings(name, value):
    # NumPy's arrays of bytes (dtype S) have lost the zeros at the end of every row.
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype.kind == "O")
    if not listed:
        received = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(f"{name}: expected a list or object array of bytes. Received: {received}")
    for row, content in enumerate(value):
        if not isinstance(content, bytes):
            is_path = isinstance(content, str | os.PathLike)
            received = f"the path {str(content)!r}" if is_path else type(content).__name__
            raise InputError(f"{name}, row {row}: expected the bytes of a file. Received: {received}")
    array = np.empty(len(value), object)
    array[:] = value
    return array
