"""What can be wrong with a run folder."""


class CheckpointError(ValueError):
    """A run folder or checkpoint that cannot be used; the message names the folder and what is wrong."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are missing or do not hold what was written; another one may still be good."""
