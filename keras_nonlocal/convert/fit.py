"""Arrays of a file in the layout, and checked for the shape, of our weights."""

import dataclasses

import numpy as np

from keras_nonlocal.convert.arrays import to_dtype, to_float32
from keras_nonlocal.convert.causes import cause_of, cause_of_values
from keras_nonlocal.convert.port import port_bn
from keras_nonlocal.convert.report import Mismatch


@dataclasses.dataclass
class Fit:
    """What fits, and what does not.

    Attributes:
        values: What to assign, by our path.
        filled: The numbers that stand for weights that the source does without, by
            our path; among the values too.
        inflated: Our paths of image kernels that were repeated in time.
        mismatches: List of `Mismatch`.
        not_finite: Names in the file.
    """

    values: dict = dataclasses.field(default_factory=dict)
    filled: dict = dataclasses.field(default_factory=dict)
    inflated: list = dataclasses.field(default_factory=list)
    mismatches: list = dataclasses.field(default_factory=list)
    not_finite: list = dataclasses.field(default_factory=list)


def fit_arrays(source, found, targets):
    """Fits every array that `found` has for `targets`, and fills what it leaves out.

    Args:
        source: `Source`.
        found: `Found`.
        targets: Dict of `Target` by our path.

    Returns:
        `Fit`.
    """
    fit = Fit(filled=_fill(source.defaults(found.arrays), found.arrays, targets))
    for path, target in targets.items():
        if path in found.arrays:
            _fit_one(fit, source, path, found, target)
        elif path in fit.filled:
            value = np.full(target.shape, fit.filled[path], "float32")
            fit.values[path] = _for_our_epsilon(value, source, target)
    return fit


def _fill(defaults, arrays, targets):
    """Numbers for weights that are left out, in layers that are not."""
    layers = {path.split("/")[0] for path in arrays}
    return {
        path: number
        for path in targets
        for ending, number in defaults.items()
        if path.endswith(ending) and path not in arrays and path.split("/")[0] in layers
    }


def _fit_one(fit, source, path, found, target):
    array, name = found.arrays[path], found.names[path]
    numbers = to_float32(array)
    value = array if numbers is None else source.port(numbers, target.shape)
    if numbers is None or value.shape != target.shape:
        cause = cause_of(path, value.shape, target.shape)
        if numbers is None:
            cause = f"holds {array.dtype}, not numbers"
        fit.mismatches.append(Mismatch(path, name, value.shape, target.shape, cause))
    elif not np.isfinite(value).all():
        fit.not_finite.append(name)
    else:
        _fit_values(fit, source, path, found, target, value)


def _fit_values(fit, source, path, found, target, value):
    """Takes numbers of the right shape, if they are as good in our weight."""
    array, name = found.arrays[path], found.names[path]
    ours = _for_our_epsilon(value, source, target)
    stored = to_dtype(ours, target.variable.dtype)
    cause = cause_of_values(ours, stored, target.variable.dtype, target.epsilon)
    if cause:
        fit.mismatches.append(Mismatch(path, name, value.shape, target.shape, cause))
        return
    fit.values[path] = ours
    if array.ndim == 4 and value.ndim == 5 and value.shape[0] > 1:
        fit.inflated.append(path)


def _for_our_epsilon(value, source, target):
    if target.epsilon is None or source.epsilon is None:
        return value
    return port_bn(value, source.epsilon, target.epsilon)
