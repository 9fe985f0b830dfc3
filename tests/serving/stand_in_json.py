"""Bodies of the REST predict method: JSON to the arrays of a signature, and back.

g3doc/api_rest.md: rows under `instances` and `predictions`, columns under `inputs` and `outputs`; a single input may
leave out its name and a single output does; `{"b64": ...}`; strings are base64 only in outputs named `..._bytes`.

Unsourced: which JSON numbers are accepted for which dtype, that unknown names are refused (a server may ignore them),
and the words of all messages.
"""

import base64
import json

import numpy as np
import tensorflow as tf

_KINDS = {"f": "iuf", "i": "iu", "u": "iu"}


def predict(version, body):
    """Answers {"signature_name"?, "instances": rows} with {"predictions": rows}; "inputs", columns, with "outputs"."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise _invalid("JSON: expected an object with either instances or inputs")
    name = request.get("signature_name", "")
    try:
        signature = version.signature(str(name))
    except tf.errors.FailedPreconditionError as error:
        raise _invalid(f"Serving signature name: {name!r} not found in signature def") from error
    by_row = "instances" in request
    columns = _columns(request["instances"], signature) if by_row else _named(request["inputs"], signature)
    if unknown := sorted(set(columns) - set(signature.inputs)):
        raise _invalid(f"inputs: expected {sorted(signature.inputs)}. Received: {unknown}")
    inputs = {key: _array(key, value, signature.inputs[key].dtype) for key, value in columns.items()}
    outputs = {key: _values(key, value) for key, value in version.predict(name, inputs).items()}
    if len(outputs) == 1:
        (only,) = outputs.values()
        return {"predictions" if by_row else "outputs": only}
    if not by_row:
        return {"outputs": outputs}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def _columns(rows, signature):
    """{input: values of all rows}."""
    if not isinstance(rows, list) or not rows:
        raise _invalid("instances: expected a list with at least one row")
    rows = [_named(row, signature) for row in rows]
    return {key: [row[key] for row in rows] for key in rows[0]}


def _named(value, signature):
    """A signature with a single input also accepts it without its name."""
    if isinstance(value, dict) and set(value) != {"b64"}:
        return value
    if len(signature.inputs) != 1:
        raise _invalid(f"JSON: expected an object with {sorted(signature.inputs)}")
    return dict.fromkeys(signature.inputs, value)


def _array(name, value, dtype):
    expected = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    try:
        if expected.hasobject:
            return np.array(_bytes(value), object)
        array = np.array(value)
        if array.dtype.kind not in _KINDS[expected.kind]:
            raise ValueError(f"not numbers of type {expected}")
        return array.astype(expected)
    except (ValueError, TypeError) as error:
        raise _invalid(f"JSON value for {name}: {error}") from error


def _bytes(value):
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict):
        if set(value) != {"b64"} or not isinstance(value["b64"], str):
            raise ValueError('expected {"b64": text}')
        return base64.b64decode(value["b64"], validate=True)
    if not isinstance(value, str):
        raise ValueError(f"expected a string. Received: {value!r}")
    return value.encode()


def _values(name, array):
    """Nested lists; strings are base64 if the output's name says that they are binary."""
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in array.tolist()]
    return [value.decode() for value in array.tolist()]


def _invalid(message):
    return tf.errors.InvalidArgumentError(None, None, message)
