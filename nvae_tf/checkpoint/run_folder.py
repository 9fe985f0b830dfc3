"""A run's folder: its configuration and its checkpoints.

RUN_DIR/
  config.json
  lock               only while a process writes checkpoints; says which
  checkpoints/
    best.json        step and nelbo of the best checkpoint, if one is marked
    step_00002811/   one checkpoint, complete or absent
      milestone      empty; if it exists, the checkpoint is never removed
"""

import math
import pathlib

import tensorflow as tf
from absl import logging

from nvae_tf import files
from nvae_tf.checkpoint.state import StateReader, newest_good, num_bytes, write_state
from nvae_tf.checkpoint.steps import CheckpointError, DamagedCheckpointError, read_best, step_of
from nvae_tf.config import config_to_dict, load_config

_MILESTONE = "milestone"


class RunFolder:
    """Folder of one run: `config.json` and the checkpoints of its training or conversion.

    A checkpoint consists of parts ("model", "optimizer", ...), each a flat mapping of names to variables; the caller
    chooses the parts. Variables are identified by name, so it does not matter how the layers are held, and a part can
    be restored without the others.

    One process writes while others may read. To a reader, a checkpoint that was just removed looks damaged.

    Args:
        path: path of the folder, which need not exist yet.

    Example:

        folder = RunFolder("runs/mnist").create(config)
        folder.save(100, {"model": model_variables(model)})
        folder.restore({"model": model_variables(other_model)})
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config_path = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self._best_path = self.checkpoints / "best.json"

    def create(self, config):
        """Creates the folder and writes `config.json`, unless that file exists; returns self."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        if not self.config_path.exists():
            files.write_json(self.config_path, config_to_dict(config))
        return self

    @property
    def config(self):
        """The run's `Config`, read from `config.json`.

        Raises:
            CheckpointError: the file does not exist.
            ConfigError: the file does not hold a configuration.
        """
        if not self.config_path.is_file():
            raise CheckpointError(f"{self.path}: expected a run folder with config.json. Received: no such file")
        return load_config(self.config_path)

    def steps(self):
        """Steps of the complete checkpoints, in increasing order."""
        return sorted({step_of(path.name) for path in self.checkpoints.glob("*")} - {None})

    def resolve_step(self, step=None):
        """Resolves a step to its number.

        Args:
            step: a number, as int or str; "best" (see `mark_best`); "latest" or None for the latest one. Default None.

        Raises:
            CheckpointError: `step` is none of these, or its checkpoint does not exist; the message lists those that do.
        """
        word = "latest" if step is None else str(step)
        if word not in ("latest", "best") and not word.isdecimal():
            raise CheckpointError(f'{self.path}: expected a step, "latest" or "best". Received: {step!r}')
        steps = self.steps()
        if not steps:
            raise CheckpointError(
                f"{self.path}: expected at least one checkpoint in {self.checkpoints}. Received: none"
            )
        if word == "latest":
            return steps[-1]
        if word == "best":
            best = self.best()
            if best is None:
                raise CheckpointError(f"{self.path}: expected a checkpoint marked as the best. Received: none")
            return best["step"]
        if int(word) not in steps:
            raise CheckpointError(f"{self.path}: expected a step with a checkpoint, one of {steps}. Received: {step}")
        return int(word)

    def save(self, step, parts, keep=3, milestone=False):
        """Writes a checkpoint and removes old ones.

        The checkpoint is written under a temporary name and renamed when it is complete and on disk; only then are
        others removed. It replaces a checkpoint of the same step and stays a milestone, or the best, if that was one.
        The remains of interrupted writes are removed first.

        Args:
            step: number of training steps done.
            parts: `{part: {name: variable}}`, Keras or TensorFlow variables.
            keep: number of checkpoints to keep, including this one; milestones and the best are kept too. Default 3.
            milestone: whether to keep this checkpoint forever. Default False.

        Returns:
            Path of the checkpoint's folder.

        Raises:
            CheckpointError: it could not be written; everything that existed before still exists.
        """
        final = self._final_folder(step)
        temporary = files.temporary_name(final)
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            files.tidy(self.checkpoints)
            temporary.mkdir()
            write_state(temporary, parts)
            if milestone or self._is_milestone(step):
                (temporary / _MILESTONE).touch()
            files.put_folder(temporary, final)
        except (OSError, tf.errors.OpError) as error:
            raise self._unwritten(final, f"{num_bytes(parts) / 2**20:.1f} MiB", error) from error
        self._rotate(step, keep)
        return final

    def restore(self, parts, step=None):
        """Sets the variables of the given parts to a checkpoint's values, all of them or none.

        Within each part, the names, shapes and types in the checkpoint must be those of the given variables. Parts that
        are not given are ignored.

        Args:
            parts: `{part: {name: variable}}`, Keras or TensorFlow variables.
            step: step of the checkpoint, as in `resolve_step`. Default None, the latest.

        Returns:
            The step that was restored.

        Raises:
            DamagedCheckpointError: the checkpoint cannot be read.
            CheckpointError: the checkpoint does not exist or does not match; the message lists the names that differ.
        """
        step = self.resolve_step(step)
        StateReader(self.step_folder(step)).assign(parts)
        return step

    def restore_latest(self, parts, before=None):
        """Restores the newest readable checkpoint, as `restore` does, with a warning for each damaged one.

        Args:
            parts: see `restore`.
            before: consider only checkpoints of earlier steps; None for all. Default None.

        Returns:
            The step that was restored, or None if there are no checkpoints.

        Raises:
            CheckpointError: all are damaged, or the newest readable one does not match.
        """
        steps, damages = [step for step in self.steps() if before is None or step < before], []
        if not steps:
            return None
        while steps:
            step = steps.pop()
            try:
                StateReader(self.step_folder(step)).assign(parts)
                return step
            except DamagedCheckpointError as error:
                damages.append(f"\n  {error}")
                logging.warning("%s. Next: %s", error, f"step {steps[-1]}" if steps else "none is left")
        raise CheckpointError(
            f"{self.checkpoints}: expected a readable checkpoint. Received only damaged ones:{''.join(damages)}"
        )

    def discard_after(self, step):
        """Removes the checkpoints of later steps, when a run returns to this step."""
        for later in self.steps():
            if later > step:
                files.remove_folder(self.step_folder(later))

    def parts(self, step=None):
        """Sorted names of the parts of a checkpoint; arguments and errors as in `restore`."""
        return sorted(StateReader(self.step_folder(self.resolve_step(step))).parts)

    def best(self):
        """`{"step": ..., "nelbo": ...}` of the best checkpoint, or None if none is marked.

        If the mark cannot be read, or its checkpoint is gone, this warns and returns None.
        """
        return read_best(self._best_path, self.steps())

    def mark_best(self, step, nelbo):
        """Marks a checkpoint as the best, which rotation keeps, unless the current best has the same or a lower nelbo.

        Args:
            step: step of the checkpoint.
            nelbo: its negative ELBO in nats; a checkpoint whose nelbo is not finite is never marked.

        Returns:
            Whether the checkpoint is the new best.

        Raises:
            CheckpointError: the mark could not be written.
        """
        nelbo, best = float(nelbo), self.best()
        if not math.isfinite(nelbo) or (best is not None and best["nelbo"] <= nelbo):
            return False
        try:
            files.write_json(self._best_path, {"step": int(step), "nelbo": nelbo})
        except OSError as error:
            raise self._unwritten(self._best_path, "the mark of the best checkpoint", error) from error
        return True

    def step_folder(self, step):
        """Path of the folder that holds the checkpoint of a step, until it is replaced as well as after."""
        final = self._final_folder(step)
        replaced = final.with_name(files.REPLACED + final.name)
        return replaced if replaced.exists() and not final.exists() else final

    def _final_folder(self, step):
        return self.checkpoints / f"step_{step:08d}"

    def _is_milestone(self, step):
        return (self.step_folder(step) / _MILESTONE).exists()

    def _rotate(self, step, keep):
        """Removes the checkpoint that `step` replaced, and old ones that nothing protects."""
        files.tidy(self.checkpoints)
        best = self.best()
        others = [other for other in self.steps() if other != step]
        for other in others[: max(0, len(others) - keep + 1)]:
            if not self._is_milestone(other) and (best is None or best["step"] != other):
                files.remove_folder(self.step_folder(other))

    def _unwritten(self, path, what, error):
        """Removes the remains of `path`, which could not be written, and returns the error to raise."""
        files.tidy(self.checkpoints)
        good = newest_good([self.step_folder(step) for step in self.steps()])
        last = "none" if good is None else f"step {step_of(good.name)}"
        return CheckpointError(
            f"{path}: expected to write {what}. Received: {error}. "
            f"Free on that file system, without it: {files.free_space(path)}. Last good checkpoint: {last}."
        )
