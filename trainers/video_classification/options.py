"""The flags of `trainers/video.py`, as its modes receive them, and their checks.

Imports nothing that takes seconds: a mistake is found before TensorFlow is imported.
"""

import dataclasses
import math

from trainers.core import options
from trainers.core.errors import UserError
from trainers.video_classification import timeline


@dataclasses.dataclass(frozen=True)
class Options(options.Options):
    """The flags of the command."""

    top_k: int = 5
    format: str = "saved_model"
    precision: str | None = None
    window: float | None = None
    step: float | None = None
    output_dir: str = ""
    outputs: tuple[str, ...] = ("jsonl",)
    features: str = ""
    queue: int = 4
    blocks: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def check(self, mode: str):
        """Raises `UserError` for flags of a mode that contradict one another."""
        if mode == "predict":
            self._check_prediction()
        if mode == "predict" and self.export_dir:
            self._check_export()
        if mode == "visualize":
            self.positions()

    def _check_prediction(self):
        window, step = self.window, self.step
        if not self.paths:
            raise UserError(
                "Nothing to predict. Give one or more video files or folders of them."
            )
        if self.top_k < 1:
            raise UserError(
                f"`top_k` must be at least 1. Received: top_k={self.top_k}."
            )
        if self.queue < 0:
            raise UserError(f"--queue must be at least 0. Received: {self.queue}.")
        for name, value in (("--window", window), ("--step", step)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} must be a positive number. Received: {value}.")
        if step is not None and window is None:
            raise UserError("--step is the distance of windows: give --window, too.")
        timeline.check_kinds(self.outputs, self.features)
        in_time = [kind for kind in self.outputs if kind != "jsonl"]
        if in_time and window is None:
            raise UserError(f"--outputs={','.join(in_time)} needs --window.")
        if not self.output_dir and (in_time or self.features):
            raise UserError("--outputs and --features need a folder: --output_dir.")

    def _check_export(self):
        if any((self.config_files, self.overrides, self.experiment, self.checkpoint)):
            raise UserError(
                "--export_dir predicts with an exported network: leave out --config, "
                "--experiment, --params_override and --checkpoint."
            )

    def positions(self) -> list[tuple[float, ...]]:
        """The positions (t, y, x) of `--query`.

        Raises:
            UserError: Another format.
        """
        return [_parse_position(text) for text in self.queries]


def _parse_position(text: str) -> tuple[float, ...]:
    try:
        point = tuple(map(float, text.split(",")))
    except ValueError:
        point = ()
    if len(point) != 3 or not all(map(math.isfinite, point)):
        raise UserError(
            f"--query must be t,y,x: a frame of the clip, and a row and a column of "
            f"its pixels, such as 4,100,120. Received: {text!r}."
        )
    return point
