"""What `load_weights` did with every weight, of the file and of the model."""

import dataclasses

from keras_nonlocal.convert.errors import CheckpointError

_SHOWN = 4  # names of one kind in the table


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A weight that cannot be loaded.

    Attributes:
        path: Of our weight.
        name: In the file.
        file_shape: In our layout where the number of axes allows, else the file's.
        shape: Of our weight.
        cause: The likely one, and what to do.
    """

    path: str
    name: str
    file_shape: tuple[int, ...]
    shape: tuple[int, ...]
    cause: str

    def __str__(self):
        return (
            f"{self.path} {self.shape} <- {self.name} {self.file_shape}: {self.cause}"
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each weight. Printed, it is a short table.

    Attributes:
        source: Name of the source.
        matched: Our weights that were loaded: `{path: name in the file}`.
        inflated: Those of them that are image kernels repeated in time.
        filled: Our weights that the source does without, and the number that
            stands for them exactly.
        new: Our weights that are not in the file and need not be: non-local blocks
            added to a network without, a classifier that is left as it is.
        ignored: Names in the file that are not needed.
        missing: Our weights that are not in the file.
        unexpected: Names in the file that have no weight of ours.
        mismatches: Weights that do not fit: `Mismatch`.
        not_finite: Names in the file with NaN or infinity among the values.
        convention: How the model differs from what the weights need.
        notes: What the problems add up to and what to do; what else to know.
    """

    source: str
    matched: dict[str, str] = dataclasses.field(default_factory=dict)
    inflated: tuple[str, ...] = ()
    filled: dict[str, float] = dataclasses.field(default_factory=dict)
    new: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    not_finite: tuple[str, ...] = ()
    convention: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self):
        """Whether the file and the model fit."""
        return not any(items for _, items in self._problems())

    def raise_if_wrong(self, advice="strict=False loads what fits all the same."):
        """Raises a `CheckpointError` that holds the report unless it is `ok`."""
        if not self.ok:
            raise CheckpointError(
                f"The weights do not fit, and nothing was loaded.\n{self}\n{advice}"
            )

    def __str__(self):
        kinds = [*self._kinds(), *self._problems()]
        width = max(len(kind) for kind, _ in kinds)
        rows = [
            _row(kind, items, width)
            for kind, items in kinds
            if items or kind in ("matched", "missing", "unexpected")
        ]
        notes = [f"! {note}" for note in self.notes]
        return "\n".join([f"weights of {self.source}", *rows, *notes])

    def _kinds(self):
        return (
            ("matched", self.matched),
            ("inflated in time", self.inflated),
            ("filled", [f"{path} = {x:g}" for path, x in self.filled.items()]),
            ("new, expected", self.new),
            ("ignored", self.ignored),
        )

    def _problems(self):
        return (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("does not fit", self.mismatches),
            ("not finite", self.not_finite),
            ("convention", self.convention),
        )


def _row(kind, items, width):
    """Kind, how many, and the first; of what was as it should be, how many only."""
    line = f"  {kind:<{width}}  {len(items):>4}"
    if kind in ("matched", "inflated in time", "ignored") or not items:
        return line
    names = [str(item) for item in items]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    indent = "\n" + " " * (width + 10)
    return f"{line}  {indent.join(names[:_SHOWN])}{more}"
