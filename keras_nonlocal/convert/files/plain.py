"""From what a pickle built to plain Python: dicts, lists, arrays, text, numbers."""

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.pickle_machine import Global

MAX_DEPTH = 100
MAX_VALUES = 10**7
LEAVES = (np.ndarray, str, bytes, bool, int, float, complex, type(None))


def plain(value, budget):
    """`value` as nested dicts, lists and tuples of arrays, texts and numbers.

    Objects that occur in several places stay shared, but what a reader meets when
    it walks through all of them is bounded: a few hundred bytes can describe a
    structure of 10^100 values.

    Raises:
        CheckpointError: It contains itself, is nested too deeply, or unfolds to
            too many values.
    """
    return _Plain(budget).convert(value, 0)[0]


class _Plain:
    def __init__(self, budget):
        self.budget = budget
        self.done = {}  # id -> (the object, kept alive; converted; values in it)
        self.open = set()

    def convert(self, value, depth):
        """`(converted, number of values in it)`."""
        if isinstance(value, LEAVES):
            return value, 1
        if id(value) not in self.done:
            if id(value) in self.open or depth > MAX_DEPTH:
                raise CheckpointError("its content contains itself without end.")
            self.open.add(id(value))
            self.done[id(value)] = (value, *self.convert_new(value, depth + 1))
            self.open.remove(id(value))
        return self.done[id(value)][1:]

    def convert_new(self, value, depth):
        if isinstance(value, dict):
            items, count = self.convert_all(value.values(), depth)
            return dict(zip(value, items, strict=True)), count
        if isinstance(value, list | tuple):
            items, count = self.convert_all(value, depth)
            return (items if isinstance(value, list) else tuple(items)), count
        if isinstance(value, set | frozenset):
            return value, len(value)
        if isinstance(value, Global):
            return value.name, 1
        if not hasattr(value, "resolve"):
            raise CheckpointError(f"it holds a {type(value).__name__}: unknown.")
        return self.convert(value.resolve(self.budget), depth)

    def convert_all(self, values, depth):
        converted, total = [], 1
        for value in values:
            item, count = self.convert(value, depth)
            converted.append(item)
            total += count
            if total > MAX_VALUES:
                raise CheckpointError(
                    f"its content unfolds to more than {MAX_VALUES} values: it is "
                    "made to exhaust memory."
                )
        return converted, total
