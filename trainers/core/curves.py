"""The curves that TensorBoard shows."""

from collections.abc import Mapping

import orbit
import tensorflow as tf

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
