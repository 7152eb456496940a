"""Test protocols by name: which frames and which crops a project scores.

Frame numbers, sizes of the scaled frames and places of the crops are exactly those of
the projects' code, rounding included; `tests/parity/test_test_views.py` compares them
with numbers recorded from it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from trainers.video_classification.data import sampling

PYSLOWFAST_FPS = 30.0  # its TARGET_FPS

# === Clips: (num_clips, num_frames, stride, video_frames) -> (clips, T) ===


def spread_clips(num_clips, num_frames, stride, video_frames, times=None) -> np.ndarray:
    """Clips from end to end of the video, see `sampling.spread_starts`."""
    span = num_frames, stride, video_frames
    starts = sampling.spread_starts(num_clips, *span)
    return np.stack([sampling.clip_frames(start, *span, times) for start in starts])


def wrapped_clips(num_clips, num_frames, stride, video_frames) -> np.ndarray:
    """video-nonlocal-net: clip j of k starts at floor(j n / k), in float32.

    The last clips wrap around the end of the video to its first frames.
    """
    gap = np.float32(video_frames) / np.float32(num_clips)
    starts = (np.arange(num_clips, dtype=np.float32) * gap).astype(int)
    frames = starts[:, None] + stride * np.arange(num_frames)
    return frames % video_frames


def pyslowfast_clips(
    num_clips, num_frames, stride, video_frames, frame_rate=30.0
) -> np.ndarray:
    """PySlowFast: clip j of k spans num_frames * stride frames from j (n - span) / k.

    These are frames of a video of 30 a second (TARGET_FPS), `stride` being its
    SAMPLING_RATE; at another rate the clip spans the same time. Its frames are evenly
    spaced from the first to the last of the span, so that 8x8 has every ninth, and
    rounded down. A video that is too short repeats its last frame.
    """
    span = max(stride * num_frames / PYSLOWFAST_FPS * frame_rate, 1.0)
    room = max(video_frames - span, 0)
    starts = np.arange(num_clips) * room / num_clips
    frames = [_float32_linspace(s, s + span - 1, num_frames) for s in starts]
    return np.clip(frames, 0, video_frames - 1).astype(int)


def mmaction2_clips(num_clips, num_frames, stride, video_frames) -> np.ndarray:
    """mmaction2's `SampleFrames(test_mode=True)`: from end to end.

    The last clip ends with the video's last frame; short videos wrap around. Clips
    of one frame are in the middle of equal parts of the video.
    """
    if num_frames == 1:
        part = video_frames / num_clips
        starts = (np.arange(num_clips) * part + part / 2).astype(int)
    else:
        room = max(video_frames - ((num_frames - 1) * stride + 1), 0)
        starts = np.array([room // 2])
        if num_clips > 1:
            starts = np.round(np.arange(num_clips) * (room / (num_clips - 1)))
    frames = starts.astype(int)[:, None] + stride * np.arange(num_frames)
    return frames % video_frames


def _float32_linspace(first, last, count):
    """`torch.linspace`: from both ends to the middle, in float32, each sum fused."""
    if count == 1:
        return np.array([first], np.float32)
    first, last = np.float32(first), np.float32(last)
    step = np.float64((last - first) / np.float32(count - 1))
    i = np.arange(count)
    lower, upper = first + step * i, last - step * (count - 1 - i)
    return np.where(i < count // 2, lower, upper).astype(np.float32)


# === Sizes: (height, width, short_side) -> (height, width) ===


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) after scaling the shorter of the two to `short_side`."""
    if height <= width:
        return short_side, max(short_side, round(width * short_side / height))
    return max(short_side, round(height * short_side / width)), short_side


def _released_size(height, width, short_side):
    # In float32 the short side may become a pixel less, and the released code fails.
    ratio = np.float32(short_side) / np.float32(min(height, width))
    sides = (int(np.float32(side) * ratio) for side in (height, width))
    return tuple(max(side, short_side) for side in sides)


def _pyslowfast_size(height, width, short_side):
    if width < height:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def _mmaction2_size(height, width, short_side):
    factor = short_side / min(height, width)
    return int(height * factor + 0.5), int(width * factor + 0.5)


# === Crops: (height, width, size, num_crops) -> [(top, left)] ===


def edge_crops(height, width, size, num_crops):
    """The central crop; or both ends of the long side, with the centre in between."""
    top, left = (height - size) // 2, (width - size) // 2
    if num_crops == 1:
        return [(top, left)]
    if width >= height:
        return [(top, x) for x in (0, left, width - size)]
    return [(y, left) for y in (0, top, height - size)]


def _released_crops(height, width, size, num_crops):
    """The last crop is twice as far as the central one: a pixel may be left over."""
    top, left = (height - size) // 2, (width - size) // 2
    if num_crops == 1:
        return [(top, left)]
    if top > 0:
        return [(i * top, left) for i in range(3)]
    return [(top, i * left) for i in range(3)]


def _pyslowfast_crops(height, width, size, num_crops):
    """The centre is rounded up."""
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if num_crops == 1:
        return [(top, left)]
    if height > width:
        return [(y, left) for y in (0, top, height - size)]
    return [(top, x) for x in (0, left, width - size)]


def _mmaction2_crops(height, width, size, num_crops):
    """Three are in the order of `ThreeCrop`: the centre comes last."""
    places = _released_crops(height, width, size, num_crops)
    return places if num_crops == 1 else [places[0], places[2], places[1]]


# === Protocols ===


@dataclasses.dataclass(frozen=True)
class TestProtocol:
    """How the test views of a video are cut.

    Attributes:
        settings: Fields of `DataConfig` that naming the protocol sets.
        clips: (num_clips, num_frames, stride, video_frames) -> frame numbers
            (clips, T).
        scaled_size: (height, width, short_side) -> (height, width).
        crops: (height, width, size, num_crops) -> [(top, left)].
        whole_frame: The scaled frame is not cropped.
        crops_short_side: Three crops must be as large as the short side.
        by_time: Strides are of a video of 30 frames a second; `clips` also takes the
            frame rate of the video.
        counts_frames: The project has no clips of a number of frames a second.
    """

    settings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    clips: Callable = spread_clips
    scaled_size: Callable = scaled_size
    crops: Callable = edge_crops
    whole_frame: bool = False
    crops_short_side: bool = False
    by_time: bool = False
    counts_frames: bool = False


_SIDES = {"min_short_side": 256, "max_short_side": 320, "crop_size": 256}
_TEN_BY_THREE = {"num_test_clips": 10, "num_test_crops": 3, **_SIDES}

PROTOCOLS = {
    "spread": TestProtocol(),
    "one_view": TestProtocol({"num_test_clips": 1, "num_test_crops": 1}),
    "paper": TestProtocol(
        {"num_test_clips": 10, "num_test_crops": 1, **_SIDES}, whole_frame=True
    ),
    "video_nonlocal_net": TestProtocol(
        _TEN_BY_THREE,
        wrapped_clips,
        _released_size,
        _released_crops,
        crops_short_side=True,
        counts_frames=True,
    ),
    "pyslowfast": TestProtocol(
        _TEN_BY_THREE,
        pyslowfast_clips,
        _pyslowfast_size,
        _pyslowfast_crops,
        crops_short_side=True,
        by_time=True,
    ),
    "mmaction2": TestProtocol(
        _TEN_BY_THREE,
        mmaction2_clips,
        _mmaction2_size,
        _mmaction2_crops,
        crops_short_side=True,
        counts_frames=True,
    ),
}
