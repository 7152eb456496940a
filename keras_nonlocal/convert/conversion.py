"""A file of weights from elsewhere to a `.keras` file of ours."""

import contextlib
import dataclasses
import os
import re

import keras

from keras_nonlocal import models
from keras_nonlocal.convert.architecture import infer
from keras_nonlocal.convert.arrays import to_arrays
from keras_nonlocal.convert.choice import choose
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.keras_file import check_destination, write_keras_file
from keras_nonlocal.convert.known import read_known
from keras_nonlocal.convert.load import load_weights
from keras_nonlocal.convert.preprocessing import describe_clips, input_shape_of
from keras_nonlocal.convert.report import Report
from keras_nonlocal.convert.sources import SOURCES, identify
from keras_nonlocal.convert.sources.own_config import told_by_config
from keras_nonlocal.convert.verify import Verification, verify


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert_file` did.

    Attributes:
        model: The network, loaded.
        metadata: What the file says of itself: the source, the arguments that the
            network was built with, class names and preprocessing.
        report: What became of every weight.
        notes: What was assumed.
        verification: If it was asked for.
    """

    model: keras.Model
    metadata: dict
    report: Report
    notes: tuple[str, ...] = ()
    verification: Verification | None = None


def convert_file(
    weights,
    path,
    *,
    source="auto",
    clip=None,
    class_names=None,
    skip_head=False,
    verifies=False,
    overwrite=False,
    **asked,
):
    """Builds the network that a file's weights are of, and saves it as `.keras`.

    Args:
        weights: File, of any kind that `load_weights` reads.
        path: What to write, `*.keras`.
        source: Name of the source, or `"auto"`.
        clip: `(frames, height, width)`; None: those of the stem, 224 x 224.
        class_names: In label order; None: not known.
        skip_head: Start a new classifier.
        verifies: Compare what was written with the source's own formulas; a
            difference is an error, and nothing remains.
        overwrite: Replace what is there.
        **asked: `model` (`"c2d"` or `"i3d"`) and `depth`, `num_classes`, `stem`,
            `temporal_kernel`, `non_local`, `convention` of it, and `mode` of its
            non-local blocks. What the file tells need not be given.

    Returns:
        `Conversion`.

    Raises:
        CheckpointError: The file cannot be read, written or verified, or
            contradicts what was asked for.
        ValueError: An argument outside its choices.
    """
    check_destination(path, overwrite)
    content = read_checkpoint(weights).content
    with _named(weights):
        source, state, facts = _read(content, source, asked.get("convention"))
        told, pixels, known_names = read_known(weights, source.name)
        if source.name == "keras_nonlocal" and not told:
            told = told_by_config(content)
        groups = _note_groups(facts, told)
        facts = _joined(facts, told)
        arguments, notes = choose(facts, asked, skip_head)
        arguments["input_shape"] = input_shape_of(arguments["stem"], clip)
        skip_head = skip_head or "num_classes" not in facts
        if class_names is None and not skip_head:
            class_names = known_names
        _check_class_names(class_names, arguments["num_classes"])
        model = build(arguments)
        report = load_weights(model, content, source.name, skip_head=skip_head)
    verifications = []

    def check(written):
        if verifies:
            loaded = keras.models.load_model(written, compile=False)
            is_new = "pred/kernel" not in report.matched
            result = verify(loaded, state, source.name, arguments, is_new)
            verifications.append(_checked(result))

    metadata = _describe(source.name, weights, arguments, class_names, pixels)
    write_keras_file(model, path, metadata, overwrite, check)
    return Conversion(model, metadata, report, notes + groups, *verifications)


def build(arguments):
    """The network of `arguments`: `"model"` and those of `C2D` or `I3D`."""
    arguments = dict(arguments)
    try:
        return models.build(arguments.pop("model"), **arguments)
    except ValueError as error:
        raise ValueError(_plain(error)) from error


def _plain(error):
    """The message of an error without what Keras puts around it, in bold type."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    return bold[1] if bold else str(error)


@contextlib.contextmanager
def _named(path):
    """Errors say which file they are about."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"Cannot convert {str(path)!r}. {error}") from error


def _read(content, name, convention):
    """`(source, state, facts)` of what a file holds."""
    source, state = identify(content, name)
    if name == "auto":
        source = _of_convention(source, state, convention)
    demands = source.demands(state, content)
    state = source.prepare(to_arrays(state))
    return source, state, infer(source, state, demands)


def _joined(facts, told):
    """What weights tell, and what the file says of itself."""
    options = facts.get("non_local_options", {}) | told.get("non_local_options", {})
    return {**facts, **told, **({"non_local_options": options} if options else {})}


def _note_groups(facts, told):
    """Which groups are the project's habit, without the file telling of them."""
    told = told.get("non_local_options", {})
    return tuple(
        f"{stage}: group_size={options['group_size']} is assumed, as in the project's "
        "networks without batch normalisation: the weights do not tell"
        for stage, options in facts.get("non_local_options", {}).items()
        if isinstance(options, dict) and "group_size" in options and stage not in told
    )


def _of_convention(source, state, convention):
    """Of sources with the same names, the one of the convention asked for."""
    known = source.count_known(state)
    twins = [x for x in SOURCES.values() if x.convention == convention]
    if source.convention is None or source in twins:
        return source
    return next((x for x in twins if x.count_known(state) == known), source)


def _check_class_names(names, num_classes):
    if names is not None and len(names) != num_classes:
        raise CheckpointError(
            f"There are {len(names)} class names, and the network has {num_classes} "
            "classes. Expected a name for each, in label order."
        )


def _checked(verification):
    if not verification.ok:
        raise CheckpointError(
            "The network does not compute what its source does, and nothing was "
            f"written: {verification}."
        )
    return verification


def _describe(source, weights, arguments, class_names, pixels):
    """What is kept beside the weights."""
    clips = [arguments[x] for x in ("stem", "convention", "input_shape")]
    return {
        "source": source,
        "file": os.path.basename(weights),
        "architecture": arguments,
        "class_names": None if class_names is None else list(class_names),
        "preprocessing": describe_clips(source, *clips, pixels),
    }
