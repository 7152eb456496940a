"""The curves that TensorBoard shows."""

from collections.abc import Mapping
from typing import NamedTuple

import orbit
import tensorflow as tf
from tensorflow.core.util import event_pb2

from trainers.core import files
from trainers.core.errors import warn
from trainers.core.files import FileError


class Curves:
    """Writes event files; a disk that takes none is a warning.

    Args:
        folder: Each curve has its own folder in it.
        global_step: Variable with the step of the values.
    """

    def __init__(self, folder: str, global_step: tf.Variable):
        self._folder = folder
        self._global_step = global_step
        self._writers = {}

    def write(self, name: str, values: dict, pictures: Mapping | None = None) -> None:
        """Adds the numbers among some values to the curves in the folder `name`.

        Args:
            name: Of the folder.
            values: By the names of their curves.
            pictures: uint8 (height, width, 3), by name.
        """
        folder = files.join(self._folder, name)
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        try:
            with files.errors(folder, "cannot be written"):
                writer = self._writer(folder)
                writer.write_summaries(numbers)
                self._write_pictures(writer, pictures or {})
                writer.flush()
        except FileError as error:
            self._writers.pop(folder, None)  # its file may be incomplete
            step = int(self._global_step.numpy())
            warn(f"{error} TensorBoard will not show step {step}.")

    def _write_pictures(self, writer, pictures: Mapping) -> None:
        with writer.summary_writer().as_default(self._global_step):
            for name, picture in pictures.items():
                tf.summary.image(name, picture[None])

    def _writer(self, folder: str):
        if folder not in self._writers:
            self._writers[folder] = orbit.utils.SummaryManager(
                folder, tf.summary.scalar, self._global_step
            )
        return self._writers[folder]


class Point(NamedTuple):
    """A value of a curve.

    Attributes:
        step: Of the training.
        value: There.
        time: When it was written, in seconds since 1970.
        session: Number of the event file: each start of a training writes one.
    """

    step: int
    value: float
    time: float
    session: int


def read_curves(model_dir: str, name: str) -> dict[str, list[Point]]:
    """The curves in a folder of a run, by name, each in rising order of steps.

    Where a resumed run repeated a step, its last value is kept. Damaged files end where
    the damage begins.

    Args:
        model_dir: Folder of the run.
        name: `train` or `validation`.
    """
    folder, curves = files.join(model_dir, name), {}
    found = files.listdir(folder) if files.is_folder(folder) else []
    names = sorted(x for x in found if x.startswith("events.out."))
    for session, path in enumerate(files.join(folder, x) for x in names):
        for event in _events(path):
            for value in event.summary.value:
                if value.HasField("tensor") and not value.tensor.tensor_shape.dim:
                    number = float(tf.make_ndarray(value.tensor))
                    point = Point(event.step, number, event.wall_time, session)
                    curves.setdefault(value.tag, {})[event.step] = point
    return {tag: [points[s] for s in sorted(points)] for tag, points in curves.items()}


def _events(path: str):
    try:
        for record in tf.data.TFRecordDataset(path):
            yield event_pb2.Event.FromString(record.numpy())
    except tf.errors.OpError as error:
        warn(f"{path} cannot be read to its end ({files.reason(error)}).")
