"""Converts a file of weights of another project to a `.keras` file."""

import dataclasses
import difflib
import inspect
import os
import re

import keras

from keras_nonlocal import models
from keras_nonlocal.convert.completion import CHOICES, check_request, complete
from keras_nonlocal.convert.errors import CONVERTING, CheckpointError, Problem, located
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.inference import check_is_network
from keras_nonlocal.convert.keras_file import check_destination, write_keras_file
from keras_nonlocal.convert.load import assign
from keras_nonlocal.convert.preprocessing import Pixels, describe_clips, input_shape_of
from keras_nonlocal.convert.reading import read_content
from keras_nonlocal.convert.recorded_logits import compare, read_recorded_logits
from keras_nonlocal.convert.report import Report


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The result of `convert_file`.

    Attributes:
        model: The network, loaded; its `metadata` are saved with it.
        report: What became of every weight.
        notes: What was assumed: tuple of `Problem`, none of which is an error.
        difference: Of its logits from those of `check_with`, relative to the
            largest; None: not compared.
    """

    model: keras.Model
    report: Report
    notes: tuple[Problem, ...] = ()
    difference: float | None = None

    @property
    def metadata(self):
        """The source, the arguments of the network, class names and preprocessing."""
        return self.model.metadata


def convert_file(
    weights,
    path,
    *,
    source="auto",
    clip=None,
    class_names=None,
    skip_classifier=False,
    check_with=None,
    overwrite=False,
    **network,
):
    """Builds the network that a file's weights are of, and saves it as `.keras`.

    What the weights determine need not be given; it is confirmed, or an error.

    Args:
        weights: File, of any kind that `load_weights` reads.
        path: What to write, `*.keras`.
        source: Name of the source, or `"auto"`.
        clip: `(frames, height, width)`; None: those of the stem, 224 x 224.
        class_names: In label order; None: those of the file, if it has them.
        skip_classifier: Start a new classifier.
        check_with: `.npz` of a `clip` and the `logits` that the source project gave
            for it: compared with those of the written file. A difference above
            1e-4 of the largest logit is an error, and nothing remains.
        overwrite: Replace what is there.
        **network: `model`: `"c2d"` or `"i3d"`; of ImageNet weights, what to inflate
            them to. `depth`, `width`, `num_classes`, `stem`, `temporal_kernel`,
            `stride_in_1x1`, `non_local`, `convention`: see `C2D` and `I3D`; blocks
            of a network without are new. `mode`: of the non-local blocks.

    Returns:
        `Conversion`.

    Raises:
        CheckpointError: The file cannot be read or written, contradicts what is
            requested, or computes something else than `check_with` has.
        ValueError: An argument outside its choices.
        TypeError: An unknown argument.
    """
    _check_no_unknown(network)
    requested = check_request(network)
    check_destination(path, overwrite)
    recorded = None if check_with is None else read_recorded_logits(check_with)
    content = read_checkpoint(weights).content
    with located(f"Cannot convert {str(weights)!r}.", CONVERTING):
        found = read_content(content, source, requested.get("convention"))
        check_is_network(found.sizes)
        built, notes = complete(found.architecture, requested, skip_classifier)
        skip_classifier |= "pred/kernel" not in found.arrays
        if class_names is None and not skip_classifier:
            class_names = found.class_names
        _check_class_names(class_names, built.num_classes)
        input_shape = input_shape_of(built.stem, clip)
        model = _build(built, input_shape)
        report = assign(model, found, skip_classifier=skip_classifier)
    differences = []

    def check(written):
        if recorded is not None:
            _check_has_classifier(report)
            differences.append(compare(written, check_with, *recorded))

    pixels = found.pixels or Pixels.of_convention(built.conventions[0])
    metadata = {
        "source": found.source.name,
        "file": os.path.basename(weights),
        "architecture": built.arguments() | {"input_shape": list(input_shape)},
        "class_names": None if class_names is None else list(class_names),
        "preprocessing": describe_clips(built.stem, input_shape, pixels),
    }
    model = write_keras_file(model, path, metadata, overwrite, check)
    return Conversion(model, report, (*notes, *_groups(found)), *differences)


def _check_no_unknown(network):
    for name in (x for x in network if x not in CHOICES):
        names = [*CHOICES, *inspect.signature(convert_file).parameters][:-1]
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise TypeError(f"convert_file has no argument {name!r}.{hint}")


def _build(architecture, input_shape):
    arguments = architecture.arguments()
    try:
        return models.build(
            arguments.pop("model"), **arguments, input_shape=input_shape
        )
    except ValueError as error:  # which Keras puts into a frame, in bold type
        bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
        raise ValueError(bold[1] if bold else str(error)) from error


def _groups(weights):
    """Notes on groups of frames that are a project's habit, not in its weights."""
    stages = {
        name.split("_")[0]: options.get("group_size")
        for name, options in weights.architecture.blocks.items()
    }
    for stage, size in stages.items():
        if size and weights.source.convention:
            yield Problem("group", {"group_size": size}, weight=stage)


def _check_class_names(names, num_classes):
    if names is not None and len(names) != num_classes:
        raise CheckpointError(
            f"There are {len(names)} class names, and the network has {num_classes} "
            "classes. Expected a name for each, in label order."
        )


def _check_has_classifier(report):
    if "pred/kernel" not in report.matched:
        raise CheckpointError(
            "The network has a new classifier, so its logits are not those of the "
            "source. Compare logits without skipping the classifier."
        )
