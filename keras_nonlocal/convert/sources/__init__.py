"""The projects whose weights can be loaded, one module each."""

from collections.abc import Mapping

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.sources import (
    alexhex7,
    gluoncv,
    keras_resnet,
    mmaction2,
    own,
    pyslowfast,
    torchvision,
    video_nonlocal_net,
)
from keras_nonlocal.convert.sources.source import Source
from keras_nonlocal.validation import check_choice

# Of two that fit as well, the first is found.
_ALL = (
    video_nonlocal_net.SOURCE,
    video_nonlocal_net.PYSLOWFAST,
    pyslowfast.SOURCE,
    mmaction2.SOURCE,
    gluoncv.SOURCE,
    torchvision.SOURCE,
    keras_resnet.KERAS_APPLICATIONS,
    keras_resnet.KERAS_HUB,
    own.SOURCE,
    alexhex7.SOURCE,
)
SOURCES = {source.name: source for source in _ALL}

__all__ = ["SOURCES", "Source", "identify"]


def identify(content, source="auto"):
    """Finds the source and its weights within what a file holds.

    Args:
        content: What the file holds: a dict, as a training program saves it.
        source: Name of a source, or `"auto"`: the one whose names fit best.

    Returns:
        `(source, weights)`: a `Source` and a dict of arrays by its names.

    Raises:
        ValueError: An unknown `source`.
        CheckpointError: Names that no source uses.

    Example:
    >>> state = {"s1.pathway0_stem.conv.weight": np.ones((64, 3, 5, 7, 7))}
    >>> identify({"epoch": 7, "model_state": state})[0].name
    'pyslowfast'
    """
    check_choice("source", source, ("auto", *SOURCES), owner="load_weights")
    candidates = SOURCES.values() if source == "auto" else [SOURCES[source]]
    states = [(source, source.unwrap(content)) for source in candidates]
    best, state = max(states, key=lambda pair: pair[0].count_known(pair[1]))
    if not best.count_known(state):
        raise _unknown(source, state, content)
    return best, state


def _unknown(source, state, content):
    if not isinstance(content, Mapping):
        return CheckpointError(
            f"The file holds a {type(content).__name__}. Expected a dict of arrays by "
            "name, as training programs save it."
        )
    if any(isinstance(name, bytes) for name in content):
        return CheckpointError(
            "The names are bytes. Expected text: decode them by "
            "{name.decode(): array for name, array in weights.items()}."
        )
    names = ", ".join(map(repr, sorted(map(str, state))[:3])) or "nothing"
    looked = ", ".join(SOURCES) if source == "auto" else source
    return CheckpointError(
        f"None of the {len(state)} names in the file is one of {looked}'s. The first "
        f"are {names}. Expected the weights of a "
        "ResNet for video or images, or of a non-local block."
    )
