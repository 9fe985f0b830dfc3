"""Golden answers: inputs stored beside an exported model, and the outputs that it must give for them.

In memory they are `{signature: ({input: array}, {output: array})}`; byte strings are object arrays of bytes. There are
two formats: .npz for servers, and .bin, float32 only, for devices, which can read it without a library.
"""

import io

import numpy as np
import PIL.Image

from nvae_tf.files import file_sum, new_file

_SIDES = ("input", "output")
_MAX_SHARE = 1e-3  # of pixel values that may differ: another processor rounds those between two levels otherwise
_RELATIVE = 1e-3  # error of floats


def check_sum(path, expected, named_by):
    """Raises ValueError unless a file has the SHA-256 that the file `named_by` lists for it."""
    received = file_sum(path)
    if received != expected:
        raise ValueError(f"{path}: expected the SHA-256 {expected} of {named_by}. Received: {received}")


def write_npz(path, answers):
    """Writes answers as .npz, with arrays under "SIGNATURE/inputs/NAME" and "SIGNATURE/outputs/NAME".

    Byte strings, which NumPy cannot store without pickle, are uint8 vectors, one for each row, under ".../NAME/ROW".
    """
    arrays = {}
    for signature, sides in answers.items():
        for side, tensors in zip(_SIDES, sides, strict=True):
            for name, value in tensors.items():
                key = f"{signature}/{side}s/{name}"
                if value.dtype == object:
                    arrays |= {f"{key}/{row}": np.frombuffer(data, np.uint8) for row, data in enumerate(value)}
                else:
                    arrays[key] = value
    with new_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_npz(path):
    """Reads the answers that `write_npz` wrote."""
    answers = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            signature, side, name, *row = key.split("/")
            tensors = answers.setdefault(signature, ({}, {}))[side == "outputs"]
            if row:
                tensors.setdefault(name, {})[int(row[0])] = file[key].tobytes()
            else:
                tensors[name] = file[key]
    for tensors in (tensors for sides in answers.values() for tensors in sides):
        for name, rows in tensors.items():
            if isinstance(rows, dict):
                tensors[name] = np.array([rows[row] for row in range(len(rows))], object)
    return answers


def write_bin(path, answers):
    """Writes float32 arrays one after the other, little-endian.

    Returns:
        `{signature: entries}` for `read_bin`: {"name", "role", "shape", "offset", "count"} of each array, the last two
        in units of 4 bytes.
    """
    arrays, entries, offset = [], {}, 0
    for signature, sides in answers.items():
        entries[signature] = []
        for role, tensors in zip(_SIDES, sides, strict=True):
            for name, value in tensors.items():
                entry = {"name": name, "role": role, "shape": list(value.shape), "offset": offset, "count": value.size}
                entries[signature].append(entry)
                arrays.append(value.ravel().astype("<f4"))
                offset += value.size
    with new_file(path) as temporary:
        temporary.write_bytes(np.concatenate(arrays).tobytes())
    return entries


def read_bin(path, entries):
    """({input: array}, {output: array}) of one signature in a .bin file, from its entries of `write_bin`."""
    numbers, arrays = np.fromfile(path, "<f4"), {role: {} for role in _SIDES}
    for entry in entries:
        values = numbers[entry["offset"] : entry["offset"] + entry["count"]]
        arrays[entry["role"]][entry["name"]] = values.reshape(entry["shape"])
    return tuple(arrays.values())


def difference(expected, received, max_levels=255):
    """How outputs differ, both `{name: array}`, as text; empty if only by rounding.

    At most one value in a thousand of uint8 arrays, and of the pixels of PNG files, may differ, by at most
    `max_levels`; float32 may differ by a relative 1e-3, or by 1e-4 of the largest value.
    """
    if set(expected) != set(received):
        return f"outputs: expected {sorted(expected)}. Received: {sorted(received)}"
    for name, right in expected.items():
        given = received[name]
        if right.dtype == object:
            right, given = _read_pixels(right), _read_pixels(given)
        if (right.dtype, right.shape) != (given.dtype, given.shape):
            wanted, seen = (f"{array.dtype} {list(array.shape)}" for array in (right, given))
            return f"{name}: expected {wanted}. Received: {seen}"
        if right.dtype == np.uint8:
            levels = np.abs(right.astype(int) - given)
            share, worst = np.mean(levels > 0), levels.max(initial=0)
            if share > _MAX_SHARE or worst > max_levels:
                return f"{name}: {share:.2%} of the values differ, by up to {worst} levels"
        elif right.dtype.kind == "f":
            near = np.isclose(given, right, rtol=_RELATIVE, atol=_RELATIVE / 10 * np.abs(right).max(initial=0))
            if not near.all():
                worst = np.nanmax(np.where(near, 0, np.abs(given - right)), initial=0)
                return f"{name}: {np.mean(~near):.2%} of the values differ, by up to {worst:.3g}"
    return ""


def _read_pixels(files):
    return np.stack([np.asarray(PIL.Image.open(io.BytesIO(content), formats=("PNG",))) for content in files])
