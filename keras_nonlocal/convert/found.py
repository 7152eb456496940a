"""The names in a file, sorted by what they are to us."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file has.

    Attributes:
        arrays: By our path, as they are in the file.
        names: In the file, by our path.
        ignored: Names that are not needed.
        unexpected: Names that have no path of ours, or whose array contradicts the
            one of another name for the same path.
    """

    arrays: dict
    names: dict
    ignored: tuple = ()
    unexpected: tuple = ()

    def without(self, is_dropped):
        """The same with some paths among the ignored."""
        dropped = tuple(self.names[path] for path in self.names if is_dropped(path))
        return Found(
            {path: x for path, x in self.arrays.items() if not is_dropped(path)},
            {path: x for path, x in self.names.items() if not is_dropped(path)},
            self.ignored + dropped,
            self.unexpected,
        )


def find_arrays(source, state):
    """Translates every name of a file.

    Args:
        source: `Source`.
        state: Dict of NumPy arrays by the source's names.
    """
    arrays, names, ignored, unexpected = {}, {}, [], []
    for name, array in state.items():
        path = None if source.ignores(name) else source.translate(name)
        if path is None:
            (ignored if source.ignores(name) else unexpected).append(name)
        elif path not in arrays:
            arrays[path], names[path] = array, name
        else:  # an alias
            same = np.array_equal(array, arrays[path])
            (ignored if same else unexpected).append(name)
    return Found(arrays, names, tuple(ignored), tuple(unexpected))
