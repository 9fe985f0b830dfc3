"""A run's folder: its configuration and its checkpoints, which survive interruptions, damage and full disks."""

from nvae_tf.checkpoint.run_folder import RunFolder
from nvae_tf.checkpoint.state import model_variables
from nvae_tf.checkpoint.steps import CheckpointError, DamagedCheckpointError

__all__ = ["CheckpointError", "DamagedCheckpointError", "RunFolder", "model_variables"]
