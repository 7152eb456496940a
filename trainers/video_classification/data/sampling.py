"""The video and the frames that make up a sample.

Everything is a function of (seed, sample number), without state from one sample to
the next. So training resumes at any sample, and threads and machines agree without
communication.
"""

import functools

import numpy as np

_ORDER, _SAMPLE = 0, 1  # purposes of a stream of random numbers


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, num_videos: int) -> np.ndarray:
    """The permutation in which an epoch visits the videos."""
    return _generator(seed, _ORDER, epoch).permutation(num_videos)


def sample_video(seed: int, sample: int, num_videos: int) -> int:
    """The video that training sample number `sample` is cut from."""
    epoch, position = divmod(sample, num_videos)
    return int(epoch_order(seed, epoch, num_videos)[position])


def sample_generator(seed: int, sample: int, attempt: int = 0) -> np.random.Generator:
    """Random numbers of one sample's clip, crop and flip.

    `attempt` counts the broken videos before this one: each replacement is drawn
    from the generator of its own attempt.
    """
    return _generator(seed, _SAMPLE, sample, attempt)


def clip_frames(
    start: int, num_frames: int, stride: int, video_frames: int
) -> np.ndarray:
    """Frame numbers of a clip: `(start + i * stride) mod video_frames`.

    A clip that reaches the end of its video continues from the first frame, as in
    video-nonlocal-net; a one-frame video is repeated.
    """
    return (start + stride * np.arange(num_frames)) % video_frames


def random_start(
    generator: np.random.Generator, num_frames: int, stride: int, video_frames: int
) -> int:
    """A training clip's first frame: uniform over all that fit; 0 if none does."""
    return int(generator.integers(max(video_frames - num_frames * stride, 0) + 1))


def spread_starts(
    num_clips: int, num_frames: int, stride: int, video_frames: int
) -> np.ndarray:
    """First frames of the test clips: evenly from end to end; a single one is central.

    Clip j of k starts at frame round(j (n - num_frames * stride) / (k - 1)) of n:
    the first clip starts with the video, the last one ends with it, and no clip
    of a video that is long enough wraps around. The paper says only "10 clips
    evenly from a full-length video"; other projects' choices are in `protocols`.
    """
    last = max(video_frames - num_frames * stride, 0)
    if num_clips == 1:
        return np.array([last // 2])
    return np.linspace(0, last, num_clips).round().astype(int)


def _generator(seed: int, *key: int) -> np.random.Generator:
    # numpy takes no negative seeds: they are converted to unsigned 64-bit integers.
    key = int(seed) % 2**64, *map(int, key)
    return np.random.Generator(np.random.PCG64(key))
