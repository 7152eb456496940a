"""Which array goes into which weight: decided, and reported, before any is moved."""

import numpy as np
from keras import ops

from keras_nonlocal.convert.arrays import to_arrays
from keras_nonlocal.convert.causes import causes_of
from keras_nonlocal.convert.convention import (
    advice,
    differences,
    differences_in_strides,
)
from keras_nonlocal.convert.fit import fit_arrays
from keras_nonlocal.convert.found import find_arrays
from keras_nonlocal.convert.report import Report
from keras_nonlocal.convert.targets import find_targets


def make_plan(model, source, state, demands, skip_head=False):
    """Matches a model with the weights of a file; changes neither.

    Args:
        model: Built model or layer.
        source: `Source`.
        state: Dict of arrays by the source's names.
        demands: What they ask of non-local blocks above the source's convention.
        skip_head: Leave the classifier as it is.

    Returns:
        `(values, report)`: a list of `(variable, array)` to assign, and a `Report`.
    """
    state = source.prepare(to_arrays(state))
    is_image = bool(source.is_image_network(state))
    targets = find_targets(model)
    found = find_arrays(source, state)
    if skip_head or _needs_no_head(source, found, targets, is_image):
        found = found.without(is_head)
    new = _new(found, targets, skip_head or is_image)
    wanted = {path: target for path, target in targets.items() if path not in new}
    fit = fit_arrays(source, found, wanted)
    strides = differences_in_strides(model, source.stride_in_1x1)
    departures = ()
    if source.convention and not is_image:
        departures = differences(model, source.convention, demands, _layers(new))
    notes = [
        *causes_of(wanted, found.arrays),
        *_not_normalized(fit.filled),
        *_not_identities(new, targets),
    ]
    if departures:
        notes.append(f"build {advice(model, source.convention, demands)}")
    if strides:
        notes.append(f"build the model with stride_in_1x1={source.stride_in_1x1}")
    if source.remark:
        notes.append(source.remark)
    report = _report(source, found, targets, new, fit, departures + strides, notes)
    return [(targets[path].variable, x) for path, x in fit.values.items()], report


def _report(source, found, targets, new, fit, departures, notes):
    """What became of each path of ours and of each name in the file."""
    known = {*found.arrays, *fit.filled, *new}
    surplus = [name for path, name in found.names.items() if path not in targets]
    return Report(
        source=source.name,
        matched={p: found.names[p] for p in fit.values if p not in fit.filled},
        inflated=tuple(fit.inflated),
        filled=fit.filled,
        new=new,
        ignored=found.ignored,
        missing=tuple(path for path in targets if path not in known),
        unexpected=(*found.unexpected, *surplus),
        mismatches=tuple(fit.mismatches),
        not_finite=tuple(fit.not_finite),
        convention=departures,
        notes=tuple(notes),
    )


def is_head(path):
    """Whether a path is of the classifier."""
    return path.startswith("pred/")


def is_non_local(path):
    """Whether a path is of a non-local block."""
    return "_nonlocal/" in path


def _needs_no_head(source, found, targets, is_image):
    """No classifier in the model, or that of an image network with other classes."""
    heads = {path: target for path, target in targets.items() if is_head(path)}
    if not is_image:
        return not heads
    mismatches = fit_arrays(source, found, heads).mismatches
    return not heads or any(x.file_shape != x.shape for x in mismatches)


def _new(found, targets, headless):
    """Our weights that the file need not have, and has not."""
    kinds = [is_non_local, is_head] if headless else [is_non_local]
    absent = [kind for kind in kinds if not any(map(kind, found.arrays))]
    return tuple(path for path in targets if any(kind(path) for kind in absent))


def _not_normalized(filled):
    """A note where every normalisation is a scale and a bias."""
    if "conv1_bn/moving_variance" in filled:
        yield (
            "the file has no running statistics: its scales and biases are taken for "
            "those of affine layers, which have none"
        )


def _not_identities(new, targets):
    """Notes on new non-local blocks that change what a trained network computes."""
    for block in _layers(filter(is_non_local, new)):
        if any(map(_is_set, _outputs(block, targets))):
            yield f"{block} is new, and does not start as an identity"


def _layers(paths):
    """Names of the layers that weights belong to, in order."""
    return list(dict.fromkeys(path.split("/")[0] for path in paths))


def _outputs(block, targets):
    """The weights that are all zero in an identity: those of the last layer."""
    last, weights = f"{block}/norm", ("gamma", "beta")
    if f"{last}/gamma" not in targets:
        last, weights = f"{block}/w_z", ("kernel", "bias")
    paths = [f"{last}/{weight}" for weight in weights]
    return [targets[path].variable for path in paths if path in targets]


def _is_set(variable):
    return bool(np.any(ops.convert_to_numpy(variable)))
