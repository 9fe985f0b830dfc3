"""The scalars of a run's TensorBoard files."""

import pathlib
import typing

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray


class Scalar(typing.NamedTuple):
    """A scalar of the log.

    Attributes:
        step: training step.
        value: float.
        time: when it was written, seconds since 1970.
        file: index of the file it is in, from 0 for the oldest; every start of the run begins a new one.
    """

    step: int
    value: float
    time: float
    file: int


def read_scalars(folder):
    """The scalars of all event files in a folder, which need not exist: `{tag: list of Scalar}` by increasing step.

    If the run returned to an earlier step (because it resumed or recovered), what it had written beyond that step is
    left out. A truncated file is read up to where it was cut.
    """
    result = {}
    for index, path in enumerate(sorted(pathlib.Path(folder).glob("events.out.tfevents.*"))):  # named by their time
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name != "scalars":
                    continue
                scalars = result.setdefault(value.tag, [])
                while scalars and scalars[-1].step >= event.step:
                    scalars.pop()
                scalars.append(Scalar(event.step, float(make_ndarray(value.tensor)), event.wall_time, index))
    return result
