"""What a `.keras` file that was converted before says of itself."""

import zipfile

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.keras_file import read_metadata

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
    except (AttributeError, LookupError, TypeError) as error:
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
    names = known.get("class_names")
    return facts, {name: clips[name] for name in _PIXELS}, names and list(names)
