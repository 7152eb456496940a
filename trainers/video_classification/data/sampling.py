"""The video and the frames that make up a sample.

Everything is a function of (seed, sample number), without state from one sample to
the next. So training resumes at any sample, and threads and machines agree without
communication.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

# Purposes of a stream of random numbers.
_ORDER, _SAMPLE, _AUGMENTATION, _MIXING, _CYCLE = range(5)

_ROUNDING = 1e-3  # of a frame: more than float32, in which records have their rate


class VideoOrder:
    """The videos that the samples of a training are cut from.

    An epoch has as many samples as there are videos, in a random order. Of all samples
    up to the end of an epoch, class c has the fraction n_c^q / sum_k n_k^q, up to one
    sample: n_c is the number of its videos, and q the exponent. Within a class, every
    video is visited once before any is visited again.

    Args:
        seed: Of all orders.
        classes: The class of each video.
        exponent: q, from 0 to 1. 1: every epoch visits every video once. 0.5:
            square-root sampling. 0: all classes equally often.
    """

    def __init__(self, seed: int, classes: Sequence[int], exponent: float = 1.0):
        self._seed, self._exponent = seed, exponent
        self._num_videos = len(classes)
        # With q = 1 the classes do not matter: all videos are one.
        classes = np.zeros(len(classes), int) if exponent == 1 else np.array(classes)
        self._videos = [np.flatnonzero(classes == c) for c in np.unique(classes)]
        shares = np.array([len(videos) for videos in self._videos]) ** float(exponent)
        self._bounds = np.cumsum(shares) / shares.sum() * self._num_videos
        self.epoch = functools.lru_cache(maxsize=4)(self._epoch)

    def video(self, sample: int) -> int:
        """The video of training sample number `sample`."""
        epoch, position = divmod(sample, self._num_videos)
        return int(self.epoch(epoch)[position])

    def replacement(self, sample: int, generator: np.random.Generator) -> int:
        """The video of another sample of the same epoch."""
        return int(generator.choice(self.epoch(sample // self._num_videos)))

    def _epoch(self, epoch: int) -> np.ndarray:
        """The videos of an epoch, in its order."""
        first, last = self._visits(epoch), self._visits(epoch + 1)
        spans = zip(first.tolist(), last.tolist(), strict=True)
        videos = np.concatenate([self._visited(c, *s) for c, s in enumerate(spans)])
        order = _generator(self._seed, _ORDER, epoch).permutation(self._num_videos)
        return videos[order]

    def _visits(self, epoch: int) -> np.ndarray:
        """How many samples each class has in all epochs before this one.

        Sums over classes are rounded, so that every epoch has all its samples.
        """
        sums = np.floor(epoch * self._bounds + 0.5)
        return np.diff(sums, prepend=0).astype(int)

    def _visited(self, number: int, first: int, last: int) -> np.ndarray:
        """The videos of visits `first` to `last` of a class, permuted in each cycle."""
        videos = self._videos[number]
        if len(videos) == self._num_videos:
            return videos
        cycles = range(first // len(videos), -(-last // len(videos)))
        visited = [
            _generator(self._seed, _CYCLE, number, cycle).permutation(videos)
            for cycle in cycles
        ]
        start = cycles.start * len(videos)
        return np.concatenate([videos[:0], *visited])[first - start : last - start]


def sample_generator(seed: int, sample: int, attempt: int = 0) -> np.random.Generator:
    """Random numbers of one sample's clip, crop and flip.

    `attempt` counts the broken videos before this one: each replacement is drawn
    from the generator of its own attempt.
    """
    return _generator(seed, _SAMPLE, sample, attempt)


def augmentation_generator(seed: int, sample: int) -> np.random.Generator:
    """Random numbers of what is done to a sample's pixels once its clip is cut."""
    return _generator(seed, _AUGMENTATION, sample)


def mixing_generator(seed: int, sample: int) -> np.random.Generator:
    """Random numbers of how a sample is mixed with its partner."""
    return _generator(seed, _MIXING, sample)


# === Frames ===
#
# Of a clip of T frames at `fps` frames a second, frame i is at i / fps seconds. In a
# video of r frames a second that is a stride of r / fps frames, a real number. Where
# the frames of a video are not evenly spaced, positions are in mean frames: position p
# is p / r seconds after the first frame.


def clip_frames(
    start: int,
    num_frames: int,
    stride: float,
    video_frames: int,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Frame numbers of a clip: nearest to `(start + i * stride) mod video_frames`.

    A clip that reaches the end of its video continues from the first frame, as in
    video-nonlocal-net; a one-frame video is repeated. Of two frames that are equally
    near, the earlier is taken.

    Args:
        start: First position.
        num_frames: T.
        stride: Distance of positions, in (mean) frames.
        video_frames: Number of frames of the video.
        times: When they are shown, in any unit; None: evenly.

    Example:
    >>> clip_frames(0, 5, 2.5, 100)
    array([ 0,  2,  5,  7, 10])
    """
    positions = (start + stride * np.arange(num_frames)) % video_frames
    if times is not None and video_frames > 1:
        positions = _numbers_at(positions, times)
    return np.ceil(positions - 0.5 - _ROUNDING).astype(int) % video_frames


def _numbers_at(positions: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Frame numbers, with fractions, at positions of mean frames.

    The last frame is shown for the mean time of the others; frame 0 follows it.
    """
    count = len(times)
    times = (np.array(times) - times[0]) / (times[-1] - times[0]) * (count - 1)
    return np.interp(positions, [*times, count], np.arange(count + 1))


def random_start(
    generator: np.random.Generator, num_frames: int, stride: float, video_frames: int
) -> int:
    """A training clip's first frame: uniform over all that fit; 0 if none does."""
    return int(generator.integers(_room(num_frames, stride, video_frames) + 1))


def spread_starts(
    num_clips: int, num_frames: int, stride: float, video_frames: int
) -> np.ndarray:
    """First frames of the test clips: evenly from end to end; a single one is central.

    Clip j of k starts at frame round(j (n - num_frames * stride) / (k - 1)) of n:
    the first clip starts with the video, the last one ends with it, and no clip
    of a video that is long enough wraps around. The paper says only "10 clips
    evenly from a full-length video"; other projects' choices are in `protocols`.
    """
    last = _room(num_frames, stride, video_frames)
    if num_clips == 1:
        return np.array([last // 2])
    return np.linspace(0, last, num_clips).round().astype(int)


def _room(num_frames: int, stride: float, video_frames: int) -> int:
    """The last position at which a clip can start so that it does not wrap around."""
    return max(math.floor(video_frames - num_frames * stride + _ROUNDING), 0)


def _generator(seed: int, *key: int) -> np.random.Generator:
    # numpy takes no negative seeds: they are converted to unsigned 64-bit integers.
    key = int(seed) % 2**64, *map(int, key)
    return np.random.Generator(np.random.PCG64(key))
