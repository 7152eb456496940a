"""The image of a training sample, as a function of seed and number.

There is no state from one sample to the next: training resumes at any sample, and
threads and machines agree without communication.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

# Purposes of a stream of random numbers.
_ORDER, _SAMPLE = range(2)


class ImageOrder:
    """The order in which training visits images: each once in an epoch.

    With groups, a batch has images of one group. Those that fill no batch of their
    group, fewer than a batch of each, are in mixed batches, and so are the images of
    a batch that two epochs share.

    Args:
        seed: Of all orders.
        images: Numbers of the images.
        groups: The group of each image; None: there are none.
        batch_size: Of a global batch.
    """

    def __init__(
        self,
        seed: int,
        images: Sequence[int],
        groups: Sequence[int] | None = None,
        batch_size: int = 1,
    ):
        self._seed, self._images = seed, np.array(images)
        self._groups = None if groups is None else np.array(groups)
        self._batch_size = batch_size
        self.epoch = functools.lru_cache(maxsize=4)(self._epoch)

    def image(self, sample: int) -> int:
        """The image of training sample number `sample`."""
        epoch, position = divmod(sample, len(self._images))
        return int(self.epoch(epoch)[position])

    def replacement(self, sample: int, generator: np.random.Generator) -> int:
        """The image of another sample of the same epoch."""
        return int(generator.choice(self.epoch(sample // len(self._images))))

    def _epoch(self, epoch: int) -> np.ndarray:
        generator = _generator(self._seed, _ORDER, epoch)
        order = generator.permutation(len(self._images))
        if self._groups is not None:
            order = self._grouped(order, epoch, generator)
        return self._images[order]

    def _grouped(self, order, epoch: int, generator) -> np.ndarray:
        """Full batches of one group each, between the ends of two mixed ones."""
        size = self._batch_size
        first = -epoch * len(order) % size  # samples of the batch that has begun
        batches, rest = [], []
        for group in np.unique(self._groups):
            members = order[self._groups[order] == group]
            whole = len(members) // size * size
            batches += list(members[:whole].reshape(-1, size))
            rest.append(members[whole:])
        batches = [batches[i] for i in generator.permutation(len(batches))]
        rest = np.concatenate(rest)
        if len(rest) < first and batches:
            rest = np.concatenate([rest, batches.pop()])
        return np.concatenate([rest[:first], *batches, rest[first:]])


def sample_generator(seed: int, sample: int, attempt: int = 0) -> np.random.Generator:
    """Random numbers of one sample.

    `attempt` counts the images before this one that could not be used: each
    replacement is drawn from the generator of its own attempt.
    """
    return _generator(seed, _SAMPLE, sample, attempt)


def _generator(seed: int, *key: int) -> np.random.Generator:
    # numpy takes no negative seeds: they are converted to unsigned 64-bit integers.
    key = int(seed) % 2**64, *map(int, key)
    return np.random.Generator(np.random.PCG64(key))
