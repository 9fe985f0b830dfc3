"""The numbers of a run's TensorBoard files."""

import dataclasses
import pathlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One number of the log.

    Attributes:
        step: training step.
        value: float.
        time: when it was written, seconds since 1970.
        file: number of the file it is in, 0 for the oldest; each start of the run begins one.
    """

    step: int
    value: float
    time: float
    file: int


def read_scalars(folder):
    """The scalars of all event files of a folder, as the run that went on has them.

    Where the run went back to an earlier step (after a stop, or a recovery), what it had written beyond that step is
    left out. A file that a kill cut short counts as far as it goes.

    Args:
        folder: of the event files; it need not exist.

    Returns:
        `{tag: list of Scalar}` by increasing step.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    result = {}
    # The names begin with the time.
    for number, path in enumerate(sorted(pathlib.Path(folder).glob("events.out.tfevents.*"))):
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            for value in event.summary.value:
                number_of = _scalar_of(value)
                if number_of is None:
                    continue
                scalars = result.setdefault(value.tag, [])
                while scalars and scalars[-1].step >= event.step:
                    scalars.pop()
                scalars.append(Scalar(event.step, number_of, event.wall_time, number))
    return result


def _scalar_of(value):
    """float of a summary value, None where it is a picture, a text or anything else."""
    from tensorboard.util.tensor_util import make_ndarray

    if value.metadata.plugin_data.plugin_name != "scalars":
        return None
    array = np.asarray(make_ndarray(value.tensor))
    return float(array) if array.ndim == 0 else None
