"""Matches arrays with weights, and reports the result, before any is assigned."""

import dataclasses
import math

import numpy as np
from keras import ops

from keras_nonlocal.convert.arrays import port_bn, to_dtype, to_float32
from keras_nonlocal.convert.differences import (
    argument_problem,
    argument_problems,
    detector_problems,
    differences,
)
from keras_nonlocal.convert.errors import Problem
from keras_nonlocal.convert.inference import (
    architecture_of_model,
    is_classifier,
    is_of_image_network,
    residual_blocks,
)
from keras_nonlocal.convert.report import Report
from keras_nonlocal.convert.sources.refusal import refuse_blocks
from keras_nonlocal.convert.targets import find_targets
from keras_nonlocal.models import DETECTORS


def match(model, weights, skip_classifier=False):
    """Matches a built model, or layer, with `Weights`; changes neither.

    Returns `(values, report)`: a list of `(variable, array)` to assign, and a `Report`.
    """
    targets = find_targets(model)
    refuse_blocks(weights, targets)
    if skip_classifier or _leaves_classifier(weights, targets):
        weights = weights.without_classifier()
    new = [x for x in targets if _is_new(x, weights, skip_classifier)]
    wanted = {path: x for path, x in targets.items() if path not in new}
    filled = _fill(weights, wanted)
    values, problems = {}, []
    for path, target in wanted.items():
        if path in weights.arrays:
            fitted = _fit(path, target, weights)
            if isinstance(fitted, Problem):
                problems.append(fitted)
            else:
                values[path] = fitted
        elif path in filled:
            value = np.full(target.shape, filled[path], "float32")
            values[path] = _for_our_epsilon(value, target, weights.source)
        else:
            problems.append(Problem("missing", weight=path))
    surplus = [name for path, name in weights.names.items() if path not in targets]
    names = (*weights.unexpected, *surplus)
    problems += [Problem("unexpected", name=name) for name in names]
    loaded = [path for path in values if path not in filled]
    sizes = {path: math.prod(target.shape) for path, target in targets.items()}
    ours = architecture_of_model(model, sizes)
    of_network = _network_problems(ours, weights, targets, problems)
    if isinstance(model, tuple(DETECTORS.values())):
        of_network = detector_problems(model.rules, weights.pixels, of_network)
    report = Report(
        source=weights.source.name,
        matched={path: weights.names[path] for path in loaded},
        inflated=tuple(x for x in loaded if _is_inflated(values[x], weights.arrays[x])),
        filled=filled,
        new=tuple(new),
        ignored=weights.ignored,
        problems=(*problems, *of_network),
        notes=tuple(_notes(weights, filled, new, targets)),
        pixels=weights.pixels,
    )
    return [(targets[path].variable, x) for path, x in values.items()], report


# === Weights that a file may omit ===


def _leaves_classifier(weights, targets):
    """No classifier in the model, or that of an image network with other classes."""
    ours = {path: x for path, x in targets.items() if is_classifier(path)}
    if not weights.is_image_network or not ours:
        return not ours
    if not any(path in weights.arrays for path in ours):  # a detector
        return True
    fitted = [_fit(x, ours[x], weights) for x in ours if x in weights.arrays]
    return any(getattr(x, "kind", None) in ("shape", "rank") for x in fitted)


def _is_new(path, weights, skip_classifier):
    """A block that the file does not have; a classifier that may be left as it is; of
    detectors all that a network for images does without."""
    if weights.is_image_network and not is_of_image_network(path):
        part = path.split("_")[0]  # fpn, bfp, rpn, box, mask, keypoint
        return not any(x.startswith(f"{part}_") for x in weights.arrays)
    layer, _ = path.split("/", 1)
    may_skip = skip_classifier or weights.is_image_network
    may_be_new = layer.endswith("_nonlocal") or (is_classifier(path) and may_skip)
    return may_be_new and not any(x.startswith(f"{layer}/") for x in weights.arrays)


def _fill(weights, targets):
    """Numbers for weights that are left out, in layers that are not."""
    defaults = weights.source.defaults(weights.arrays)
    layers = {path.split("/")[0] for path in weights.arrays}
    return {
        path: number
        for path in targets
        for ending, number in defaults.items()
        if path.endswith(ending)
        and path not in weights.arrays
        and path.split("/")[0] in layers
    }


# === One array ===


def _fit(path, target, weights):
    """The value, in our layout and for our epsilon, or the `Problem`."""
    array, dtype = weights.arrays[path], target.variable.dtype
    where = {"weight": path, "name": weights.names[path]}
    numbers = to_float32(array)
    if numbers is None:
        return Problem("type", str(array.dtype), **where)
    value = weights.source.layout(numbers, target.shape)
    if value.shape != target.shape:
        kind = "shape" if value.ndim == len(target.shape) else "rank"
        return Problem(kind, value.shape, target.shape, **where)
    if not np.isfinite(value).all():
        return Problem("not finite", **where)
    value = _for_our_epsilon(value, target, weights.source)
    stored = to_dtype(value, dtype)
    if not np.isfinite(stored).all():
        return Problem("overflow", float(np.abs(value).max()), dtype, **where)
    if target.epsilon is not None and (stored + target.epsilon <= 0).any():
        return Problem("variance", float(value.min()), **where)
    return value


def _for_our_epsilon(value, target, source):
    if target.epsilon is None or source.epsilon is None:
        return value
    return port_bn(value, source.epsilon, target.epsilon)


def _is_inflated(value, array):
    return value.ndim == 5 and len(value) > 1 and array.ndim == 4


# === The network ===


def _network_problems(ours, weights, targets, problems):
    """Problems of the whole network, and those that no weight shows."""
    theirs = weights.architecture
    if problems and not any(problem.kind == "rank" for problem in problems):
        counts = residual_blocks(targets), residual_blocks(weights.arrays)
        if counts[0] != counts[1] and all(map(any, counts)):
            fix = {"depth": theirs.depth} if theirs.depth else {}
            yield Problem("residual blocks", *counts, fix)
        names = ("model", "width", "num_classes", "temporal_kernel")
        for problem in argument_problems(ours, theirs, names):
            if "num_classes" in problem.fix:
                problem = dataclasses.replace(problem, fix={"skip_classifier": True})
            yield problem
        if theirs.non_local and theirs.non_local != ours.non_local:
            found, fix = ours.non_local or None, {"non_local": theirs.non_local}
            yield argument_problem("non_local", found, theirs.non_local, fix)
        has_classifier = any(path.startswith("pred/") for path in weights.names)
        if "pred/kernel" in targets and not has_classifier:
            yield Problem("classifier", fix={"skip_classifier": True})
    if weights.source.convention is None:  # of ours: stems may change
        theirs = dataclasses.replace(theirs, stem=None)
    yield from differences(ours, theirs)


def _notes(weights, filled, new, targets):
    if "conv1_bn/moving_variance" in filled:
        yield Problem("no statistics")
    blocks = [path.split("/")[0] for path in new if "_nonlocal/" in path]
    for block in dict.fromkeys(blocks):
        if any(np.any(ops.convert_to_numpy(x)) for x in _outputs(block, targets)):
            yield Problem("not an identity", weight=block)
    if weights.source.remark:
        yield weights.source.remark


def _outputs(block, targets):
    """The weights that are all zero in an identity: those of the last layer."""
    last, kinds = f"{block}/norm", ("gamma", "beta")
    if f"{last}/gamma" not in targets:
        last, kinds = f"{block}/w_z", ("kernel", "bias")
    paths = [f"{last}/{kind}" for kind in kinds]
    return [targets[path].variable for path in paths if path in targets]
