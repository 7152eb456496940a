"""Problems as data, their spelling in a front end, and the error that holds them.

`load_weights` is called with arguments, the command with flags, the trainers with
keys of a config. A `Problem` names arguments; a `Spelling` writes them in the words
of one front end when the text is made, and no text is changed afterwards.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

# What an argument of a loading function does; all others are of the network.
_EFFECTS = {
    "skip_classifier": "leaves the classifier out",
    "strict": "loads what fits all the same",
    "overwrite": "replaces what is there",
}

# By kind. `found` and `expected` are spelled where they are arguments.
_WORDS = {
    "missing": "{weight}",
    "unexpected": "{name}",
    "not finite": "{name}",
    "shape": "{weight} {expected} <- {name} {found}",
    "rank": "{weight} {expected} <- {name} {found}: another kind of layer",
    "type": "{weight} <- {name} holds {found}, not numbers",
    "overflow": (
        "{weight} <- {name} has numbers up to {found:.3g}, too large for {expected}: "
        "build the model with weights of float32"
    ),
    "variance": (
        "{weight} <- {name} has a variance of {found:.3g}, which has no square root: "
        "the file is damaged"
    ),
    "argument": "{found}, but the weights need {expected}",
    "residual blocks": (
        "the weights have {expected} residual blocks in res2 to res5, the model {found}"
    ),
    "block option": "{weight} has {name}={found!r}, not {expected!r}",
    "padding": "{weight} pads height and width by {found}, not {expected}",
    "window": "{weight} looks at {found} frames, not {expected}",
    "stem": "conv1 and pool1 have stride {found} in time, not {expected}",
    "stride_in_1x1": "res3_0 strides in its {found}, not in the {expected}",
    "classifier": "the weights have no classifier",
    "image network": "the weights are of an image network, which fits {expected}",
    "no blocks": "{found} needs non-local blocks, and the weights have none",
    "temporal kernel": "C2D has no temporal kernels to choose from: {found}",
    "assumed": "{found} is assumed: the weights do not determine it",
    "group": (
        "{weight}: {found} is assumed, as in the project's networks without batch "
        "normalisation: the weights do not determine it"
    ),
    "new blocks": (
        "the non-local blocks after {found} are new: they change nothing until they "
        "are trained"
    ),
    "not an identity": "{weight} is new, and does not start as an identity",
    "pixels": "it was trained on {found} pixels (0-255) minus {expected}, as {name}",
    "image pixels": "the network takes {found}, its weights {expected}",
    "no statistics": (
        "the file has no running statistics: its scales and biases are taken for "
        "those of affine layers, which have none"
    ),
    "same names": "a file of {name} needs {fix}: its weights have the same names",
}


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How a front end writes arguments.

    Attributes:
        template: Of an argument and its value.
        write: A value as text.
        special: Templates of single arguments; None: there is no such argument.
        verb: What a user does with arguments of the network.
    """

    template: str = "{argument}={value}"
    write: Callable = repr
    special: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    verb: str = "Build the model with"

    def spell(self, arguments):
        """Arguments with their values, those that the front end has.

        Example:
        >>> Spelling("--{argument} {value}", str).spell({"depth": 50, "stem": "8x8"})
        '--depth 50, --stem 8x8'
        """
        forms = {x: self.special.get(x, self.template) for x in arguments}
        return ", ".join(
            form.format(argument=x, value=self._write(arguments[x]))
            for x, form in forms.items()
            if form is not None
        )

    def _write(self, value):
        if isinstance(value, list):
            return " or ".join(map(self.write, value))
        return "N" if value is ... else self.write(value)

    def advise(self, fix):
        """What to do about problems, in a sentence for each effect."""
        of_network = {x: value for x, value in fix.items() if x not in _EFFECTS}
        sentences = [(self.spell(of_network), f"{self.verb} {{}}.")]
        for argument in filter(fix.__contains__, _EFFECTS):
            text = self.spell({argument: fix[argument]})
            sentences.append((text, f"{{}} {_EFFECTS[argument]}."))
        return " ".join(form.format(text) for text, form in sentences if text)


LOADING = Spelling()
CONVERTING = Spelling(special={"strict": None}, verb="Pass")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth a note. Printed, it is a line.

    Attributes:
        kind: Such as `"missing"`, `"shape"`, `"argument"`.
        found: In the model, in the file, or in what was requested.
        expected: What the weights, or our weight, need. Of some kinds both are
            arguments, as `fix`.
        fix: `{argument: value}` that mends it; a list is a choice, and `...` any.
        weight, name: Of our weight (or layer), and in the file.
    """

    kind: str
    found: Any = None
    expected: Any = None
    fix: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weight: str | None = None
    name: str | None = None

    def describe(self, spelling=LOADING):
        """A line, with arguments as a front end spells them."""
        parts = {
            part: spelling.spell(value) if isinstance(value, Mapping) else value
            for part, value in vars(self).items()
        }
        return _WORDS[self.kind].format(**parts)

    def __str__(self):
        return self.describe()


def _merge_fixes(problems):
    """The fixes of several problems as one: options of blocks are joined."""
    merged = {}
    for argument, value in (x for problem in problems for x in problem.fix.items()):
        if argument == "non_local_options":
            value = merged.get(argument, {}) | value
        merged[argument] = value
    return merged


class CheckpointError(ValueError):
    """A file that cannot be read, or weights that do not fit.

    Attributes:
        message: What happened, without the names of arguments.
        problems: Tuple of `Problem`.
        report: `Report` with them, if weights were compared.
        fix: `{argument: value}` that mends them.
        spelling: Of the function that raised it.
    """

    def __init__(self, message="", problems=(), report=None, fix=(), spelling=LOADING):
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)
        self.report = report
        self.fix = _merge_fixes(self.problems) | dict(fix)
        self.spelling = spelling

    def describe(self, spelling):
        """The text, with arguments as a front end spells them."""
        advice = spelling.advise(self.fix)
        if self.report:
            parts = [self.message, self.report.describe(spelling), advice]
            return "\n".join(filter(None, parts))
        lines = "; ".join(problem.describe(spelling) for problem in self.problems)
        return " ".join(filter(None, [self.message, lines and f"{lines}.", advice]))

    def __str__(self):
        return self.describe(self.spelling)


@contextlib.contextmanager
def located(message, spelling=None):
    """Puts what was being done before the message of a `CheckpointError`."""
    try:
        yield
    except CheckpointError as error:
        error.message = f"{message} {error.message}"
        error.spelling = spelling or error.spelling
        raise
