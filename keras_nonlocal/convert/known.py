"""What a `.keras` file that was converted before says of itself."""

import math
import zipfile

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.keras_file import read_metadata
from keras_nonlocal.layers.checks import NORMALIZATIONS, POOL_POSITIONS, SCOPES
from keras_nonlocal.models.conventions import CONVENTIONS
from keras_nonlocal.models.placement import STAGES
from keras_nonlocal.models.video_resnet import STEMS
from keras_nonlocal.ops.non_local import MODES

# What weights do not tell.
_TOLD = ("convention", "stem", "stride_in_1x1")
_PIXELS = ("color", "mean", "std")


def read_known(path, source):
    """`(facts, pixels, class_names)`, empty for all other files.

    Args:
        path: File.
        source: Name of the source.

    Returns:
        Arguments of C2D and I3D, `"mode"` and other options of non-local blocks
        under `"non_local_options"`; colour, mean and standard deviation of pixels;
        class names or None.

    Raises:
        CheckpointError: A description that is none of ours.
    """
    if source != "keras_nonlocal" or not zipfile.is_zipfile(path):  # weights alone
        return {}, {}, None
    known = read_metadata(path)
    if not known:
        return {}, {}, None
    try:
        return _take(known)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Its description of itself is damaged ({error!r}). Expected what "
            "keras_nonlocal.convert writes."
        ) from error


def _take(known):
    architecture, clips = known["architecture"], known["preprocessing"]
    facts = {name: architecture[name] for name in _TOLD if name in architecture}
    if architecture["non_local"]:
        options = {"mode": "embedded_gaussian"} | architecture["non_local_options"]
        facts["non_local_options"] = options
    pixels = {name: clips[name] for name in _PIXELS}
    names = known.get("class_names")
    _check("class_names", names, names is None or _is_list_of(str, names))
    _check_facts(facts)
    _check_pixels(**pixels)
    return facts, pixels, names or None


def _check(name, value, is_right):
    if not is_right:
        raise ValueError(f"{name}={value!r}")


def _check_facts(facts):
    choices = {"convention": [*CONVENTIONS], "stem": [*STEMS]}
    choices["stride_in_1x1"] = [True, False]
    for name, allowed in choices.items():
        if name in facts:
            _check(name, facts[name], facts[name] in allowed)
    options = facts.get("non_local_options", {})
    _check_options({x: y for x, y in options.items() if x not in STAGES})
    for stage in STAGES:
        _check_options(options.get(stage, {}))


def _check_options(options):
    """Those of non-local blocks that `convert_file` writes."""
    for name, value in options.items():
        _check(name, value, name in _OPTIONS and _OPTIONS[name](value))


def _is_flag(value):
    return isinstance(value, bool)


def _is_size(value):
    return value is None or (isinstance(value, int) and value > 0)


_OPTIONS = {
    "mode": tuple(MODES).__contains__,
    "normalization": NORMALIZATIONS.__contains__,
    "use_bias": _is_flag,
    "use_output_bias": _is_flag,
    "use_scale": _is_flag,
    "sub_sample": _is_flag,
    "pool_position": POOL_POSITIONS.__contains__,
    "intermediate_channels": _is_size,
    "scope": SCOPES.__contains__,
    "group_size": _is_size,
}


def _check_pixels(color, mean, std):
    _check("color", color, color in ["RGB", "BGR"])
    for name, values in (("mean", mean), ("std", std)):
        _check(name, values, _is_list_of((int, float), values) and len(values) == 3)
        _check(name, values, all(map(math.isfinite, values)))
    _check("std", std, min(std) > 0)


def _is_list_of(kind, values):
    return isinstance(values, list) and all(isinstance(x, kind) for x in values)
