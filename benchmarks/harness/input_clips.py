"""Clips for measurements, and the samples that training cuts out of them."""

import os
import pathlib
import shutil
from typing import NamedTuple

import cv2
import numpy as np

NUM_FRAMES = 250  # ten seconds, as Kinetics' clips
# As scripts that download Kinetics compress it, with one keyframe; always two B-frames
# in a row, one of which refers to the other: nothing refers to a third of all frames.
X264 = {"crf": "23", "preset": "medium", "g": "250", "bf": "2", "b_strategy": "0"}
# In one pass; keyframes every 128 frames, the default. Each frame is referred to.
VP9 = {"crf": "33", "b": "0", "deadline": "good", "cpu-used": "4"}
MOST_SHIFT = 64  # pixels


class Video(NamedTuple):
    """A video that is generated: (height, width), suffix, encoder and its options."""

    size: tuple
    suffix: str
    codec: str
    options: dict


VIDEOS = {
    "340x256": Video((256, 340), ".mp4", "libx264", X264),
    "640x360": Video((360, 640), ".mp4", "libx264", X264),
    "1920x1080": Video((1080, 1920), ".mp4", "libx264", X264 | {"preset": "veryfast"}),
    "640x360 VP9": Video((360, 640), ".webm", "libvpx-vp9", VP9),
}


class Cut(NamedTuple):
    """One training sample: the frames of a video, and the square cut from each.

    The square of `size` lies at `top`, `left` of the frame scaled to `height` x
    `width`, which shrinks it unless the frame is as small.
    """

    path: str
    label: int
    frames: tuple
    height: int
    width: int
    top: int
    left: int
    size: int
    flip: bool


def make_clips(folder, video, copies):
    """Writes a `Video` of moving texture and noise; `copies` names for it.

    There are more names than a pipeline caches, so that none gains from having read a
    file before.
    """
    from trainers.video_classification.data import write_video

    original = pathlib.Path(folder, "original" + video.suffix)
    frames = _moving_texture(video.size)
    write_video(str(original), frames, codec=video.codec, options=video.options)
    return link_clips(folder, [original], copies)


def link_clips(folder, originals, copies):
    """A folder with one class of `copies` names, which are links to the originals."""
    clips = pathlib.Path(folder, "clips", "clip")
    clips.mkdir(parents=True)
    for number in range(copies):
        original = pathlib.Path(originals[number % len(originals)]).resolve()
        name = clips / f"{number:04d}{original.suffix}"
        try:
            os.link(original, name)
        except OSError:  # another file system, or one without links
            shutil.copy(original, name)
    return str(clips.parent)


def cuts(index, data, clip, count, seed):
    """Samples 0, 1, ... of a training run, drawn by our sampling."""
    from trainers.video_classification.data import reading, sampling
    from trainers.video_classification.data.views import RandomView

    known = {}
    order = sampling.VideoOrder(seed, np.zeros(len(index)))
    for number in range(count):
        video = index.videos[order.video(number)]
        file = os.stat(video.path).st_ino
        if file not in known:
            opened = reading.open_frames(video.path, data.decoder)
            _, picture = next(iter(opened.pictures(np.array([0]))))
            known[file] = opened.num_frames, picture.size
        num_frames, size = known[file]
        plan = RandomView(data, clip, sampling.sample_generator(seed, number))
        frames = plan.frames(num_frames)[0].tolist()
        window = plan.windows(*size)[0]
        yield Cut(
            video.path,
            video.labels[0],
            tuple(frames),
            window.height,
            window.width,
            window.top,
            window.left,
            window.size,
            window.flip,
        )


def _moving_texture(size):
    """Smooth patches that drift at different speeds, with a little noise."""
    rng = np.random.default_rng(0)
    height, width = size
    grain = height // 24  # of the patches, in pixels: as much detail in any size
    coarse = rng.normal(0, 40, (3, 56, 80, 3)).astype(np.float32)
    layers = [
        cv2.resize(part, (80 * grain, 56 * grain), interpolation=cv2.INTER_CUBIC)
        for part in coarse
    ]
    noise = 4 * rng.standard_normal(
        (height + MOST_SHIFT, width + MOST_SHIFT, 1), np.float32
    )
    speeds = rng.uniform(-1.2, 1.2, (3, 2)) * grain / 10
    for number in range(NUM_FRAMES):
        frame = np.full((height, width, 3), 128, np.float32)
        for layer, speed in zip(layers, speeds, strict=True):
            way = min(number, NUM_FRAMES - number)  # there and back
            top, left = (16 * grain + speed * way).astype(int)
            frame += layer[top : top + height, left : left + width]
        top, left = rng.integers(MOST_SHIFT, size=2)  # of the noise, as if drawn anew
        frame += noise[top : top + height, left : left + width]
        yield np.clip(frame, 0, 255, out=frame).astype(np.uint8)
