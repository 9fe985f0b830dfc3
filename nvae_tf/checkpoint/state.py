"""The values of a checkpoint: variables by part and name, in TensorFlow's checkpoint files.

CHECKPOINT/
  state.index                  names, shapes, types, checksums
  state.data-00000-of-00001    values
"""

import contextlib
import re
import weakref

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from nvae_tf.checkpoint.steps import CheckpointError, DamagedCheckpointError
from nvae_tf.files import plain_path

_STATE = "state"
_KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NAMES_SHOWN = 20
# TensorFlow's reader raises any of these; a truncated data file, for example, is an IndexError.
_READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


def model_variables(model):
    """`{path: keras.Variable}` of a built Keras model, in the order of `model.variables`.

    The paths omit the name of the model, because it depends on how many models the process has created.

    Raises:
        ValueError: two variables share a path, so one would hide the other in a checkpoint.
    """
    variables = {}
    for variable in model.variables:
        path = variable.path.removeprefix(f"{model.name}/")
        if path in variables:
            raise ValueError(f"{model.name}: expected a different path for each variable. Received twice: {path!r}")
        variables[path] = variable
    return variables


def write_state(folder, parts):
    """Writes variables into an existing folder."""
    # Plain nested dicts, because tf.train.Checkpoint does not follow layers in Python lists.
    live = {part: {name: _live(variable) for name, variable in names.items()} for part, names in parts.items()}
    tf.train.Checkpoint(**live).write(str(folder / _STATE))


def num_bytes(parts):
    """Size of the values of the parts in bytes."""
    live = [_live(variable) for names in parts.values() for variable in names.values()]
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in live)


class StateReader:
    """The values of one checkpoint.

    TensorFlow verifies the checksum of the index when it opens the files, and that of each tensor when it reads it.

    Args:
        folder: folder of the checkpoint.

    Attributes:
        parts: `{part: {name: (key in the files, (shape, type))}}`.

    Raises:
        DamagedCheckpointError: the files cannot be read, or part of the index is lost.
    """

    def __init__(self, folder):
        self._folder = folder
        held = contextlib.ExitStack()
        weakref.finalize(self, held.close)  # the reader opens a file when it first reads from it
        try:
            self._reader = tf.train.load_checkpoint(str(held.enter_context(plain_path(folder)) / _STATE))
            shapes, dtypes = self._reader.get_variable_to_shape_map(), self._reader.get_variable_to_dtype_map()
        except (*_READ_ERRORS, OSError) as error:
            raise self._damaged(error) from error
        self._check_index(shapes)
        self.parts = {}
        for key, shape in shapes.items():
            if key.endswith(_KEY_SUFFIX):
                part, _, name = key.removesuffix(_KEY_SUFFIX).partition("/")
                self.parts.setdefault(part, {})[_unescape(name)] = key, (tuple(shape), dtypes[key].name)

    def check(self):
        """Reads everything; raises `DamagedCheckpointError` if something cannot be read."""
        for names in self.parts.values():
            for key, _ in names.values():
                self._read(key)

    def assign(self, parts):
        """Sets all variables of `{part: {name: variable}}` to the stored values, or none; see `RunFolder.restore`."""
        wanted = []
        for part, variables in parts.items():
            live = {name: _live(variable) for name, variable in variables.items()}
            stored = self.parts.get(part, {})
            expected = {name: (tuple(variable.shape), variable.dtype.name) for name, variable in live.items()}
            found = {name: kind for name, (_, kind) in stored.items()}
            _compare(f"{self._folder}, part {part!r}", expected, found)
            wanted += [(stored[name][0], variable) for name, variable in live.items()]
        # Everything is read twice: the first pass only checks that it can be read, without holding all of it in memory.
        for key, _ in wanted:
            self._read(key)
        for key, variable in wanted:
            variable.assign(self._read(key))

    def _read(self, key):
        try:
            return self._reader.get_tensor(key)
        except _READ_ERRORS as error:
            raise self._damaged(f"{key.removesuffix(_KEY_SUFFIX)}: {error}") from error

    def _check_index(self, keys):
        """Raises `DamagedCheckpointError` unless the keys are those that were written."""
        # TensorFlow's list of keys silently ends at a damaged block; the object graph has all keys.
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(self._read(_GRAPH_KEY))
        written = {attribute.checkpoint_key for node in graph.nodes for attribute in node.attributes}
        lost = sorted(key.removesuffix(_KEY_SUFFIX) for key in written if key not in keys)
        if lost:
            raise self._damaged(f"an index that lost {len(lost)} of {len(written)} variables, first {lost[0]}")

    def _damaged(self, what):
        return DamagedCheckpointError(f"{self._folder}: expected a readable checkpoint. Received: {what}")


def newest_good(folders):
    """The last folder whose checkpoint can be read completely, or None."""
    for folder in reversed(folders):
        try:
            StateReader(folder).check()
            return folder
        except DamagedCheckpointError:
            continue
    return None


def _live(variable):
    """The TensorFlow variable behind a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _compare(where, expected, found):
    """Raises `CheckpointError` unless both dicts have the same names with the same shapes and types."""
    differ = [
        f"{name} (checkpoint {found[name]}, expected {kind})"
        for name, kind in expected.items()
        if found.get(name, kind) != kind
    ]
    problems = ""
    for title, names in (
        ("missing in the checkpoint", [name for name in expected if name not in found]),
        ("only in the checkpoint", sorted(set(found) - set(expected))),
        ("of another shape or type", differ),
    ):
        if names:
            more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            problems += f"\n  {len(names)} {title}: {', '.join(names[:_NAMES_SHOWN])}{more}"
    if problems:
        raise CheckpointError(f"{where}: expected the variables of this model. Received:{problems}")


def _unescape(name):
    # TensorFlow writes "." as ".." and "/" as ".S" in the keys of a checkpoint.
    return re.sub(r"\.(\.|S)", lambda match: "/" if match[1] == "S" else ".", name)
