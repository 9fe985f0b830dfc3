"""A run's folder: its configuration and its checkpoints.

RUN_DIR/
  config.json
  checkpoints/
    step_00002811/   one checkpoint, whole or absent
"""

import os
import pathlib
import re
import shutil

import tensorflow as tf

from nvae_tf.config import load_config, save_config

_STATE = "state"
_STEP_NAME = re.compile(r"step_(\d{8,})")
_TEMPORARY_PREFIX = "tmp_"
_KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_NAMES_SHOWN = 20


class CheckpointError(ValueError):
    """A run folder or checkpoint that cannot be used; the message names the folder and what is wrong."""


def model_variables(model):
    """Variables of a built Keras model by path, without the leading name of the model.

    The order is that of `model.variables`; the paths do not depend on how often a model was made in the process.

    Args:
        model: built `keras.Model`.

    Returns:
        `{path: keras.Variable}`.

    Raises:
        ValueError: two variables share a path, so that one would hide the other in a checkpoint.
    """
    variables = {}
    for variable in model.variables:
        path = variable.path.removeprefix(f"{model.name}/")
        if path in variables:
            raise ValueError(f"{model.name}: expected a path of its own for each variable. Received twice: {path!r}")
        variables[path] = variable
    return variables


class RunFolder:
    """Folder of one run: `config.json` and the checkpoints of its training or conversion.

    A checkpoint is made of parts ("model", "optimizer", ...), each a flat mapping of names to variables; which parts
    there are is the caller's choice. Names, not objects, identify variables, so nothing is lost because of the way
    layers are held, and a part can be restored without the others.

    Args:
        path: of the folder; it need not exist yet.

    Example:

        folder = RunFolder("runs/mnist").create(config)
        folder.save(100, {"model": model_variables(model)})
        folder.restore({"model": model_variables(other_model)})
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config_path = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"

    def create(self, config):
        """Makes the folder and writes `config.json`, unless it is there already; returns self."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        if not self.config_path.exists():
            save_config(config, self.config_path)
        return self

    @property
    def config(self):
        """The run's `Config`, read from `config.json`.

        Raises:
            CheckpointError: there is no such file.
            ConfigError: the file does not hold a configuration.
        """
        if not self.config_path.is_file():
            raise CheckpointError(f"{self.path}: expected a run folder with config.json. Received: no such file")
        return load_config(self.config_path)

    def steps(self):
        """Steps of the whole checkpoints, in increasing order."""
        if not self.checkpoints.is_dir():
            return []
        matches = (_STEP_NAME.fullmatch(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def latest_step(self):
        """Step of the last checkpoint, or None where there is none."""
        return max(self.steps(), default=None)

    def resolve_step(self, step=None):
        """The step itself, or the latest where it is None.

        Raises:
            CheckpointError: there is no such checkpoint; the message lists those that are there.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(
                f"{self.path}: expected at least one checkpoint in {self.checkpoints}. Received: none"
            )
        if step is not None and step not in steps:
            raise CheckpointError(f"{self.path}: expected a step with a checkpoint, one of {steps}. Received: {step}")
        return steps[-1] if step is None else step

    def save(self, step, parts, keep=3):
        """Writes a checkpoint and removes the oldest ones.

        A checkpoint of the same step is replaced. It is written under a temporary name and renamed when whole; what
        interrupted writes left behind is removed first.

        Args:
            step: training steps done, at least 0.
            parts: `{part: {name: variable}}`, Keras or TensorFlow variables.
            keep: how many checkpoints stay, this one among them. Default 3.

        Returns:
            Path of the checkpoint's folder.
        """
        if step < 0 or keep < 1:
            raise ValueError(f"save: expected step >= 0 and keep >= 1. Received: step={step}, keep={keep}")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for leftover in self.checkpoints.glob(f"{_TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover)
        final = self._folder(step)
        temporary = final.with_name(_TEMPORARY_PREFIX + final.name)
        temporary.mkdir()
        _trackable(parts).write(str(temporary / _STATE))
        if final.exists():
            _remove(final)
        os.rename(temporary, final)
        others = [other for other in self.steps() if other != step]
        for other in others[: max(0, len(others) - keep + 1)]:
            _remove(self._folder(other))
        return final

    def restore(self, parts, step=None):
        """Sets the variables of the given parts to a checkpoint's values, all of them or none.

        Strict in both directions within each part: every variable must be in the checkpoint and everything in the
        checkpoint must have its variable, in the same shape and type. Parts not asked for are ignored.

        Args:
            parts: `{part: {name: variable}}`, Keras or TensorFlow variables.
            step: of the checkpoint; None for the latest. Default None.

        Returns:
            The step restored.

        Raises:
            CheckpointError: no such checkpoint, an unreadable one, or one that does not fit; the names that
                differ are listed for each side.
        """
        step = self.resolve_step(step)
        folder = self._folder(step)
        prefix = str(folder / _STATE)
        try:
            _check_fit(folder, tf.train.load_checkpoint(prefix), parts)
            _trackable(parts).read(prefix).assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: expected a readable checkpoint. Received: {error}") from error
        return step

    def _folder(self, step):
        return self.checkpoints / f"step_{step:08d}"


def _remove(folder):
    """Removes a checkpoint; an interruption leaves a temporary name, never a checkpoint with files missing."""
    retired = folder.with_name(f"{_TEMPORARY_PREFIX}old_{folder.name}")
    os.rename(folder, retired)
    shutil.rmtree(retired)


def _live(variable):
    """The TensorFlow variable behind a Keras one."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _trackable(parts):
    # Plain nested dicts: tf.train.Checkpoint does not follow layers that are held in Python lists.
    live = {part: {name: _live(variable) for name, variable in names.items()} for part, names in parts.items()}
    return tf.train.Checkpoint(**live)


def _check_fit(folder, reader, parts):
    """Raises `CheckpointError` unless the checkpoint holds exactly the variables of each part."""
    dtypes = reader.get_variable_to_dtype_map()
    stored = {}
    for key, shape in reader.get_variable_to_shape_map().items():
        if key.endswith(_KEY_SUFFIX):
            part, _, name = key.removesuffix(_KEY_SUFFIX).partition("/")
            stored.setdefault(part, {})[_unescape(name)] = (tuple(shape), dtypes[key].name)
    for part, variables in parts.items():
        live = {name: _live(variable) for name, variable in variables.items()}
        expected = {name: (tuple(variable.shape), variable.dtype.name) for name, variable in live.items()}
        _compare(f"{folder}, part {part!r}", expected, stored.get(part, {}))


def _compare(where, expected, found):
    problems = []
    for title, names in (
        ("missing in the checkpoint", [name for name in expected if name not in found]),
        ("in the checkpoint alone", sorted(set(found) - set(expected))),
        (
            "of another shape or type",
            [
                f"{name} (checkpoint {found[name]}, expected {expected[name]})"
                for name in expected
                if name in found and found[name] != expected[name]
            ],
        ),
    ):
        if names:
            more = [f"and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
            problems.append(f"{len(names)} {title}: " + ", ".join(names[:_NAMES_SHOWN] + more))
    if problems:
        raise CheckpointError(f"{where}: expected the variables of this model. Received:\n  " + "\n  ".join(problems))


def _unescape(name):
    # TensorFlow writes "." as ".." and "/" as ".S" in the keys of a checkpoint.
    return re.sub(r"\.(\.|S)", lambda match: "/" if match[1] == "S" else ".", name)
