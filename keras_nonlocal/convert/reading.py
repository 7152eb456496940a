"""Reads the weights of a file once, and translates each name once."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_nonlocal.convert.architecture import Architecture
from keras_nonlocal.convert.arrays import to_arrays
from keras_nonlocal.convert.differences import OF_CONVENTION
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.inference import (
    architecture_of_configs,
    architecture_of_weights,
    is_classifier,
    saved_configs,
)
from keras_nonlocal.convert.keras_file import saved_metadata
from keras_nonlocal.convert.preprocessing import Pixels
from keras_nonlocal.convert.sources import SOURCES, Source
from keras_nonlocal.convert.sources.refusal import refuse_others, refuse_slow
from keras_nonlocal.models import CONVENTIONS
from keras_nonlocal.validation import check_choice


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a file.

    Attributes:
        source: `Source`.
        arrays: By our path, in the source's layout.
        names: In the file, by our path.
        ignored: Names that are not needed.
        unexpected: Names that have no path of ours, or whose array contradicts the
            one of another name for the same path.
        architecture: `Architecture`, as far as the weights and a config beside them
            determine it.
        is_image_network: Whether they are of a classifier of images.
        pixels: `Pixels` that they were trained with; None: unknown.
        class_names: List of names; None: unknown.
    """

    source: Source
    arrays: dict
    names: dict
    ignored: tuple = ()
    unexpected: tuple = ()
    architecture: Architecture = Architecture()
    is_image_network: bool = False
    pixels: Pixels | None = None
    class_names: list | None = None

    @property
    def sizes(self):
        """Numbers of elements by our path."""
        return {path: int(np.size(array)) for path, array in self.arrays.items()}

    def with_epsilon(self, epsilon):
        """The same, trained with another epsilon than the source's."""
        source = dataclasses.replace(self.source, epsilon=float(epsilon))
        return dataclasses.replace(self, source=source)

    def without_classifier(self):
        """The same with the classifier among the ignored."""
        dropped = [path for path in self.arrays if is_classifier(path)]
        return dataclasses.replace(
            self,
            arrays={x: y for x, y in self.arrays.items() if x not in dropped},
            names={x: y for x, y in self.names.items() if x not in dropped},
            ignored=(*self.ignored, *(self.names[path] for path in dropped)),
            architecture=dataclasses.replace(self.architecture, num_classes=None),
        )


def read_content(content, source="auto", convention=None):
    """Finds the source of what a file holds, and translates its weights.

    `source` is a name or `"auto"`, the one whose names fit best; `convention` decides
    between sources of the same names.

    Example:
    >>> state = {"s1.pathway0_stem.conv.weight": np.ones((64, 3, 5, 7, 7))}
    >>> read_content({"epoch": 7, "model_state": state}).names
    {'conv1/kernel': 's1.pathway0_stem.conv.weight'}
    """
    check_choice("source", source, ("auto", *SOURCES), owner="load_weights")
    chosen, state, paths = _identify(content, source, convention)
    _check_arrays(state, paths)
    state = to_arrays(state)
    refuse_others(chosen, state)
    state = chosen.normalize(state)
    arrays, names, ignored, unexpected = {}, {}, [], []
    for name, array in state.items():
        path = paths.get(name) or chosen.translate(name)
        if chosen.ignores(name):
            ignored.append(name)
        elif path is None:
            unexpected.append(name)
        elif path not in arrays:
            arrays[path], names[path] = array, name
        else:  # an alias
            same = np.array_equal(array, arrays[path])
            (ignored if same else unexpected).append(name)
    if chosen.convention:
        refuse_slow(arrays, names)
    weights = Weights(chosen, arrays, names, tuple(ignored), tuple(unexpected))
    return _with_architecture(weights, state, content)


# === Whose names they are ===


def _identify(content, name, convention):
    """`(source, state, paths)`: its weights by name, and our path of each or None."""
    candidates = SOURCES.values() if name == "auto" else [SOURCES[name]]
    readings = []
    for source in candidates:
        state = source.unwrap(content)
        paths = {x: source.translate(x) for x in map(str, state)}
        score = sum(path is not None for path in paths.values())
        agrees = convention is not None and source.convention == convention
        readings.append(((score, agrees), (source, state, paths)))
    (score, _), best = max(readings, key=lambda reading: reading[0])
    if not score:
        raise _unknown(name, best[1], content)
    return best


def _unknown(name, state, content):
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
    tried = ", ".join(SOURCES) if name == "auto" else name
    return CheckpointError(
        f"None of the {len(state)} names in the file is one of {tried}'s. The first "
        f"are {names}. Expected the weights of a "
        "ResNet for video or images, or of a non-local block."
    )


def _check_arrays(state, paths):
    """Raises for lists of numbers: left out, they would seem to be missing."""
    for name, value in state.items():
        if isinstance(value, list | tuple) and paths[str(name)]:
            raise CheckpointError(
                f"{name!r} holds a {type(value).__name__}, and not an array: make it "
                "one by numpy.asarray."
            )


# === Which network they are of ===


def _with_architecture(weights, state, content):
    source = weights.source
    found = architecture_of_weights(weights.sizes)
    found = dataclasses.replace(found, stride_in_1x1=source.stride_in_1x1)
    is_image, pixels, names = bool(source.is_image_network(state)), source.pixels, None
    if is_image:
        found = dataclasses.replace(found, model=None, temporal_kernel=None)
    elif source.convention:
        found = _of_project(found, source, source.block_options(state, content))
    elif source.pixels is None:
        found, pixels, names = _of_keras(found, content.get("config"))
    return dataclasses.replace(
        weights,
        architecture=found,
        is_image_network=is_image,
        pixels=pixels,
        class_names=names,
    )


def _of_project(found, source, options):
    """The common architecture of a project's networks, with these `options`."""
    rules = CONVENTIONS[source.convention]
    usual = {x: getattr(rules, x) for x in OF_CONVENTION}
    usual |= {"scope": "spacetime", "group_size": None}
    general = {x: value for x, value in options.items() if not x.startswith("res")}
    blocks = {
        name: {**block, **usual, **general, **options.get(name.split("_")[0], {})}
        for name, block in found.blocks.items()
    }
    found = dataclasses.replace(found, conventions=(source.convention,), blocks=blocks)
    return dataclasses.replace(found, stem=found.project_stem)


def _of_keras(found, config):
    """The network that the config and metadata of a `.keras` file describe."""
    beside = architecture_of_configs(saved_configs(config))
    blocks = {x: beside.blocks[x] for x in found.blocks if x in beside.blocks}
    found = found.merged(dataclasses.replace(beside, blocks=blocks))
    convention, pixels, class_names = saved_metadata(config, found.conventions)
    if convention:
        found = dataclasses.replace(found, conventions=(convention,))
    return found, pixels, class_names
