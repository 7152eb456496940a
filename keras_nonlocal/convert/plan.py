"""Which array goes into which weight: decided, and reported, before any is moved."""

import numpy as np

from keras_nonlocal.convert.arrays import to_arrays, to_float32
from keras_nonlocal.convert.causes import cause_of, causes_of
from keras_nonlocal.convert.convention import differences
from keras_nonlocal.convert.found import find_arrays
from keras_nonlocal.convert.port import port_bn
from keras_nonlocal.convert.report import Mismatch, Report
from keras_nonlocal.convert.targets import find_targets


def make_plan(model, source, state, skip_head=False):
    """Matches a model with the weights of a file; changes neither.

    Args:
        model: Built model or layer.
        source: `Source`.
        state: Dict of arrays by the source's names.
        skip_head: Leave the classifier as it is.

    Returns:
        `(values, report)`: a list of `(variable, array)` to assign, and a `Report`.
    """
    state = source.prepare(to_arrays(state))
    targets = find_targets(model)
    found = find_arrays(source, state)
    is_image = source.is_image_network(state)
    if skip_head or _keeps_head(source, found, targets, is_image):
        found = found.without(_is_head)
    new = _new(found, targets, skip_head or is_image)
    wanted = {path: x for path, x in targets.items() if path not in new}
    values, mismatches, not_finite = _fit(source, found, wanted)
    filled = _fill(source.defaults(found.arrays), found, wanted)
    known = found.arrays.keys() | filled
    missing = tuple(path for path in wanted if path not in known)
    surplus = tuple(found.names[path] for path in found.names if path not in targets)
    report = Report(
        source=source.name,
        matched={path: found.names[path] for path in values},
        inflated=tuple(
            path
            for path in values
            if found.arrays[path].ndim == 4 and values[path].shape[0] > 1
        ),
        filled=filled,
        new=new,
        ignored=found.ignored,
        missing=missing,
        unexpected=found.unexpected + surplus,
        mismatches=mismatches,
        not_finite=not_finite,
        convention=() if is_image else differences(model, source, state),
        causes=causes_of(targets, found),
    )
    for path, number in filled.items():
        array = np.full(wanted[path].shape, number)
        values[path] = _value(source, array, wanted[path])
    return [(targets[path].variable, value) for path, value in values.items()], report


def _is_head(path):
    return path.startswith("pred/")


def _is_non_local(path):
    return "_nonlocal/" in path


def _keeps_head(source, found, targets, is_image):
    """Whether a classifier in the file has no use here."""
    ours = [path for path in targets if _is_head(path)]
    return (
        not ours
        or is_image
        and any(
            path in found.arrays
            and np.shape(_value(source, found.arrays[path], targets[path]))
            != targets[path].shape
            for path in ours
        )
    )


def _new(found, targets, headless):
    """Our weights that a file need not have, and has not."""
    kinds = [_is_non_local, *([_is_head] if headless else [])]
    kinds = [kind for kind in kinds if not any(map(kind, found.arrays))]
    return tuple(path for path in targets if any(kind(path) for kind in kinds))


def _fit(source, found, wanted):
    """Values by path, those that do not fit, and names of those not finite."""
    values, mismatches, not_finite = {}, [], []
    for path, target in wanted.items():
        if path not in found.arrays:
            continue
        array, name = found.arrays[path], found.names[path]
        value = _value(source, array, target)
        if value is None or value.shape != target.shape:
            shape = array.shape if value is None else value.shape
            cause = cause_of(path, array, shape, target.shape)
            mismatches.append(Mismatch(path, name, shape, target.shape, cause))
        elif not np.isfinite(value).all():
            not_finite.append(name)
        else:
            values[path] = value
    return values, tuple(mismatches), tuple(not_finite)


def _value(source, array, target):
    """The array as `target` takes it, or None if it is not numbers."""
    numbers = to_float32(array)
    if numbers is None:
        return None
    numbers = source.port(numbers, target.shape)
    if target.epsilon is not None:
        numbers = port_bn(numbers, source.epsilon, target.epsilon)
    return numbers


def _fill(defaults, found, wanted):
    """Our weights that stand for nothing in the file, within layers that it has."""
    layers = {path.split("/")[0] for path in found.arrays}
    return {
        path: number
        for path in wanted
        for ending, number in defaults.items()
        if path.endswith(ending)
        and path not in found.arrays
        and path.split("/")[0] in layers
    }
