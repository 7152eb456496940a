"""Videos of ten formats, damaged at random; and a process that reads them.

    python tests/trainers/data/damage.py FOLDER SEED START STOP

reads the damaged videos START to STOP of a seed. It prints a line of JSON before and
after each, so that a native crash shows which video it was.
"""

import json
import os
import pathlib
import re
import resource
import struct
import sys
import time

import numpy as np

# Suffix -> arguments of `write_video`.
FORMATS = {
    "mp4": dict(options={"g": "7", "bf": "0", "crf": "12"}),
    "mkv": dict(codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "webm": dict(codec="libvpx", options={"deadline": "realtime"}),
    "avi": dict(codec="mpeg4", options={"bf": "2", "g": "7"}),
    "ts": dict(options={"g": "7", "bf": "0", "crf": "12"}),
    "mov": dict(codec="mjpeg", pix_fmt="yuvj420p"),
    "flv": dict(codec="flv"),
    "wmv": dict(codec="wmv2"),
    "gif": dict(codec="gif", pix_fmt="rgb8"),
    "mpg": dict(codec="mpeg2video"),
}
_WORDS = (0, 1, 2, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_TAG = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")


def write_sources(folder, num_frames=24):
    """Writes a sound video of every format; returns their content by suffix."""
    from trainers.video_classification.data import write_video

    y, x = np.mgrid[:48, :64]
    frames = [
        np.stack([x * 4, y * 5, (x + y + 9 * n) * 2], -1).astype(np.uint8)
        for n in range(num_frames)
    ]
    contents = {}
    for suffix, settings in FORMATS.items():
        path = pathlib.Path(folder) / f"sound.{suffix}"
        same = {"fflags": "+bitexact"}  # no random identifiers
        write_video(path, frames, container_options=same, **settings)
        contents[suffix] = path.read_bytes()
    return contents


def write_damaged(contents, folder, seed, number):
    """Writes damaged video `number` of a seed; returns its path."""
    suffix = list(contents)[number % len(contents)]
    path = pathlib.Path(folder) / f"damaged-{seed}-{number}.{suffix}"
    path.write_bytes(damaged(contents[suffix], np.random.default_rng([seed, number])))
    return str(path)


def damaged(content, random):
    """Content with one to three kinds of damage."""
    result = bytearray(content)
    for damage in random.choice(_DAMAGES, size=random.integers(1, 4)):
        damage(result, random)
    return bytes(result)


def _flip_bits(content, random):
    for place in random.integers(len(content), size=random.integers(1, 9)):
        content[place] ^= 1 << random.integers(8)


def _flip_bit_of_header(content, random):
    content[random.integers(min(len(content), 1024))] ^= 1 << random.integers(8)


def _overwrite(content, random):
    place, size = random.integers(len(content)), random.integers(1, 600)
    content[place : place + size] = random.bytes(size)


def _erase(content, random):
    place, size = random.integers(len(content)), random.integers(1, 2000)
    content[place : place + size] = bytes(len(content[place : place + size]))


def _cut(content, random):
    del content[random.integers(8, len(content)) :]


def _remove(content, random):
    place = random.integers(len(content))
    if place + 700 < len(content):
        del content[place : place + random.integers(1, 700)]


def _insert(content, random):
    place = random.integers(len(content))
    content[place:place] = random.bytes(random.integers(1, 400))


def _swap(content, random):
    size = random.integers(1, max(len(content) // 4, 2))
    a, b = random.integers(max(len(content) - size, 1), size=2)
    first, second = content[a : a + size], content[b : b + size]
    content[a : a + size], content[b : b + size] = second, first


def _append(content, random):
    content += random.bytes(random.integers(1, 5000))


def _set_header_field(content, random):
    """Sets a number behind one of the names that mark the parts of a container."""
    tags = [match.start() for match in _TAG.finditer(content[:4096] + content[-4096:])]
    tags = [tag if tag < 4096 else tag + len(content) - 8192 for tag in tags] or [0]
    place = int(random.choice(tags)) + int(random.integers(0, 48))
    word = struct.pack(random.choice(["<I", ">I"]), random.choice(_WORDS))
    size = int(random.choice([2, 4]))
    content[place : place + size] = word[-size:]


_DAMAGES = np.array(
    [_flip_bits, _flip_bit_of_header, _overwrite, _erase, _cut, _remove, _insert]
    + [_swap, _append, _set_header_field, _set_header_field],
    dtype=object,
)


def read_all(folder, seed, numbers):
    """Yields a dict before and after reading each of the damaged videos."""
    from trainers.video_classification.data import VideoError, read_views
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

    clip = ClipConfig(num_frames=4, temporal_stride=2)
    data = DataConfig(min_short_side=32, max_short_side=40, crop_size=28)
    contents = write_sources(folder)
    for number in numbers:
        path = write_damaged(contents, folder, seed, number)
        yield {"number": number, "path": os.path.basename(path)}
        start, outcome = time.monotonic(), "read"
        try:
            views = read_views(path, data, clip)
            if views.shape != (1, 4, 28, 28, 3):
                outcome = f"views of shape {views.shape}"
        except VideoError as error:
            outcome = "broken" if error.path == path else f"names {error.path}"
        except BaseException as error:
            outcome = repr(error)
        seconds = round(time.monotonic() - start, 3)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB
        yield {"number": number, "outcome": outcome, "seconds": seconds, "MiB": memory}
        if outcome in ("read", "broken"):
            os.remove(path)


if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3])
    for line in read_all(sys.argv[1], int(sys.argv[2]), range(*map(int, sys.argv[3:]))):
        print(json.dumps(line), flush=True)
