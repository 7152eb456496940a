"""Which checkpoints of a training are kept: the newest ones, and the best."""

import math
from collections.abc import Callable, Mapping

from trainers.core import checkpoint_files, files
from trainers.core.errors import UserError, warn
from trainers.core.files import FileError

_INFO = "info.json"  # metrics of the best checkpoint


class Saver:
    """Saves checkpoints to a folder, and removes the oldest.

    A damaged checkpoint does not count as one of those kept. It is left as it is until
    its step is saved again, or it is older than all that are kept.

    Args:
        checkpoint: From `checkpoints.training_checkpoint`.
        folder: Where to save.
        max_to_keep: Number of checkpoints to keep.
        name: What they are called, before the step.
        is_chief: Whether this process is the one that writes.
        saved_step: Step of the checkpoint that was restored, which is not saved again.
        statistics: From `checkpoints.statistics_checkpoint`, for `save_statistics`.
    """

    def __init__(
        self,
        checkpoint,
        folder,
        max_to_keep,
        name="ckpt",
        is_chief=True,
        saved_step=None,
        statistics=None,
    ):
        self._checkpoint = checkpoint
        self._folder = folder
        self._max_to_keep = max_to_keep
        self._name = name
        self._is_chief = is_chief
        self._saved_step = saved_step
        self._statistics = statistics
        self._whole = {}  # prefix -> whether it is whole

    def save(self, step: int, with_statistics: bool = False) -> None:
        """Saves a checkpoint, unless it is the one saved last.

        Args:
            step: Of training.
            with_statistics: They are there when the checkpoint appears.

        Raises:
            FileError: It cannot be written.
        """
        if step == self._saved_step or not self._is_chief:
            return
        prefix = self._prefix(step)
        if with_statistics:
            self.save_statistics(step)
        else:  # there may be those of another run
            checkpoint_files.remove(checkpoint_files.statistics_of(prefix))
        self._write(self._checkpoint, prefix)
        self._saved_step = step
        self._whole[prefix] = True
        self._remove_all_but(self._select(prefix))

    def save_statistics(self, step: int) -> None:
        """Saves the statistics beside the checkpoint of a step.

        Raises:
            FileError: They cannot be written.
        """
        if not self._is_chief:
            return
        prefix = checkpoint_files.statistics_of(self._prefix(step))
        self._write(self._statistics, prefix)

    def _prefix(self, step: int) -> str:
        return files.join(self._folder, f"{self._name}-{step}")

    def _write(self, checkpoint, prefix: str):
        try:
            checkpoint_files.write(checkpoint, prefix)
        except FileError as error:
            raise FileError(error.path, f"{error.reason} {self._left()}") from error

    def _left(self) -> str:
        found = filter(self._is_whole, checkpoint_files.prefixes(self._folder))
        newest = next(found, None)
        return f"The last one is {newest}." if newest else "None has been saved before."

    def _select(self, saved: str) -> list[str]:
        """The checkpoints to keep, the oldest first."""
        kept = [saved]
        for prefix in checkpoint_files.prefixes(self._folder):
            if len(kept) < self._max_to_keep and prefix != saved:
                kept += [prefix] if self._is_whole(prefix) else []
        return sorted(kept, key=checkpoint_files.number)

    def _remove_all_but(self, kept: list[str]):
        checkpoint_files.write_state(self._folder, kept)
        oldest = checkpoint_files.number(kept[0])
        is_full = len(kept) == self._max_to_keep
        for prefix in checkpoint_files.prefixes(self._folder):
            is_old = is_full and checkpoint_files.number(prefix) < oldest
            if prefix not in kept and (is_old or self._is_whole(prefix)):
                checkpoint_files.remove(prefix)

    def _is_whole(self, prefix: str) -> bool:
        if prefix not in self._whole:
            self._whole[prefix] = checkpoint_files.is_whole(prefix)
        return self._whole[prefix]


class BestSaver:
    """Keeps the checkpoint with the best metric ever, and its metrics in `info.json`.

    Args:
        checkpoint: From `checkpoints.training_checkpoint`.
        folder: Where to keep it.
        metric: Name of the metric that selects the best.
        higher_is_better: Whether the best has the highest value, or the lowest.
        is_chief: Whether this process is the one that writes.
        from_chief: Function that calls another on the chief, and returns what that
            returns on all workers, so that they agree.
        statistics: As of `Saver`; saved with each checkpoint.

    Attributes:
        unrated: Prefix of the best checkpoint if its `info.json` is lost: to be given
            to `rate` before the first `save_if_best`. Else None.
    """

    def __init__(
        self,
        checkpoint,
        folder,
        metric,
        higher_is_better,
        is_chief=True,
        from_chief: Callable = lambda compute: compute(),
        statistics=None,
    ):
        self._saver = Saver(
            checkpoint, folder, 1, "best", is_chief, statistics=statistics
        )
        self._has_statistics = statistics is not None
        self._folder = folder
        self._metric = metric
        self._sign = 1 if higher_is_better else -1
        self._is_chief = is_chief
        self._value, self.unrated = from_chief(self._find_best)

    def rate(self, metrics: Mapping) -> None:
        """Sets the metrics of the `unrated` checkpoint."""
        self._set_info(checkpoint_files.number(self.unrated), metrics)
        self.unrated = None

    def save_if_best(self, step: int, metrics: Mapping) -> bool:
        """Saves if the metric is better than ever before; a NaN never is.

        Raises:
            FileError: The checkpoint cannot be written.
            UserError: The evaluation has no such metric.
        """
        value = self._sign * self._value_of(metrics)
        if not (value > -math.inf if self._value is None else value > self._value):
            return False
        self._saver.save(step, self._has_statistics)
        self._set_info(step, metrics)
        return True

    def _value_of(self, metrics: Mapping) -> float:
        if self._metric not in metrics:
            raise UserError(
                "trainer.best_checkpoint_eval_metric is "
                f"{self._metric!r}; the evaluation gives "
                f"{', '.join(sorted(metrics))}."
            )
        return float(metrics[self._metric])

    def _set_info(self, step: int, metrics: Mapping):
        value = self._sign * self._value_of(metrics)
        self._value = None if math.isnan(value) else value
        if self._is_chief:
            info = {"step": step, **_numbers(metrics)}
            files.write_json(files.join(self._folder, _INFO), info)

    def _find_best(self) -> tuple[float | None, str | None]:
        """The value to be beaten, or else the `unrated` checkpoint."""
        found = checkpoint_files.prefixes(self._folder)
        path = files.join(self._folder, _INFO)
        if not (found or files.exists(path)):
            return None, None
        try:
            step, value = self._read_info(path)
            best = files.join(self._folder, f"best-{step}")
            checkpoint_files.verify(best)
            return self._sign * value, None
        except FileError as error:
            unrated = next(filter(checkpoint_files.is_whole, found), None)
            warn(f"{error} {_consequence(unrated)}")
            return None, unrated

    def _read_info(self, path: str) -> tuple[int, float]:
        info = files.read_json(path)
        try:
            return int(info["step"]), float(info[self._metric])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"has no valid `step` and `{self._metric}`."
            raise FileError(path, reason) from error


def _consequence(unrated: str | None) -> str:
    if unrated:
        return f"The metrics of {unrated} are computed again."
    return "The best checkpoint is lost; that of the next evaluation takes its place."


def _numbers(metrics: Mapping) -> dict:
    return {key: float(value) for key, value in metrics.items() if _is_number(value)}


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
