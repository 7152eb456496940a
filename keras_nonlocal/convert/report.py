"""The report of `load_weights` on every weight of the file and of the model."""

import dataclasses

from keras_nonlocal.convert.errors import LOADING, CheckpointError, Problem
from keras_nonlocal.convert.preprocessing import Pixels

_SHOWN = 4  # names of one kind in the table
_DOES_NOT_FIT = ("shape", "rank", "type", "overflow", "variance")
_OF_WEIGHTS = ("missing", "unexpected", "not finite", *_DOES_NOT_FIT)


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
            that are added to its network, a classifier that is left as it is.
        ignored: Names in the file that are not needed.
        problems: What does not fit: tuple of `Problem`.
        notes: What else to know: tuple of `Problem`, none of which is an error.
        pixels: `Pixels` that the weights were trained with; None: unknown.
    """

    source: str
    matched: dict[str, str] = dataclasses.field(default_factory=dict)
    inflated: tuple[str, ...] = ()
    filled: dict[str, float] = dataclasses.field(default_factory=dict)
    new: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    pixels: Pixels | None = None

    @property
    def ok(self):
        """Whether the file and the model fit."""
        return not self.problems

    @property
    def missing(self):
        """Our weights that are not in the file."""
        return tuple(x.weight for x in self._of("missing"))

    @property
    def unexpected(self):
        """Names in the file that have no weight of ours."""
        return tuple(x.name for x in self._of("unexpected"))

    @property
    def new_blocks(self):
        """Names of the non-local blocks among the new layers, in order."""
        return tuple(
            dict.fromkeys(x.split("/")[0] for x in self.new if "_nonlocal/" in x)
        )

    def raise_if_wrong(self):
        """Raises a `CheckpointError` that holds the report unless it is `ok`."""
        if not self.ok:
            message = "The weights do not fit, and nothing was loaded."
            raise CheckpointError(message, self.problems, self, {"strict": False})

    def describe(self, spelling=LOADING):
        """The table, with arguments as a front end spells them."""
        rows = self._rows(spelling)
        width = max(map(len, rows))
        lines = [
            _line(kind, items, width)
            for kind, items in rows.items()
            if items or kind in ("matched", "missing", "unexpected")
        ]
        notes = [f"! {note.describe(spelling)}" for note in self.notes]
        return "\n".join([f"weights of {self.source}", *lines, *notes])

    def __str__(self):
        return self.describe()

    def _rows(self, spelling):
        network = [x for x in self.problems if x.kind not in _OF_WEIGHTS]
        return {
            "matched": self.matched,
            "inflated in time": self.inflated,
            "filled": [f"{path} = {x:g}" for path, x in self.filled.items()],
            "new, expected": self.new,
            "ignored": self.ignored,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "does not fit": self._of(*_DOES_NOT_FIT),
            "not finite": self._of("not finite"),
            "network": [problem.describe(spelling) for problem in network],
        }

    def _of(self, *kinds):
        return [problem for problem in self.problems if problem.kind in kinds]


def _line(kind, items, width):
    """Kind, how many, and the first; of what was as it should be, how many only."""
    line = f"  {kind:<{width}}  {len(items):>4}"
    if kind in ("matched", "inflated in time", "ignored") or not items:
        return line
    names = [str(item) for item in items]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    indent = "\n" + " " * (width + 10)
    return f"{line}  {indent.join(names[:_SHOWN])}{more}"
