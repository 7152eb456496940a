"""A damaged shard gives the pixels and labels of a sound one, or an error."""

import collections
import resource
import struct
import time

import numpy as np
import pytest

from tests.trainers.data.record_files import forged, framed
from trainers.core.errors import UserError
from trainers.video_classification.data import VideoError, load_index, read_views
from trainers.video_classification.data.tfrecords.shards import write_shards

_SEED = 10
_NAMES = "clips-00000-of-00001.json", "index.json", "clips-00000-of-00001.frames"
_SHARD = "clips-00000-of-00001.tfrecord"


@pytest.fixture
def sound(tmp_path, index):
    """A shard of nine videos, three of them in parts, with the files beside it."""
    write_shards(
        index,
        str(tmp_path / "sound"),
        short_side=40,
        quality=95,
        num_shards=1,
        workers=1,
        part_bytes=20_000,
    )
    return tmp_path / "sound"


@pytest.fixture
def read(data_config, clip_config):
    """Function: name -> (class names, views) of the videos that a folder gives."""

    def views_of(folder):
        data = data_config(input_path=str(folder), num_test_clips=12)
        try:
            index = load_index(data)
        except UserError:
            return {}
        found = {}
        for video in index.videos:
            labels = [index.class_names[label] for label in video.labels]
            try:
                views = read_views(video.path, data, clip_config)
            except VideoError as error:
                assert error.path.startswith(str(folder))
                continue
            assert video.name not in found
            found[video.name] = labels, views
        return found

    return views_of


# === Damages ===


def flip_bits(content, random):
    for place in random.integers(len(content), size=random.integers(1, 4)):
        content[place] ^= 1 << random.integers(8)


def cut(content, random):
    del content[random.integers(len(content)) :]


def overwrite(content, random):
    place, size = random.integers(len(content)), random.integers(1, 600)
    run = random.choice([random.bytes(size), bytes(size)])
    content[place : place + size] = run[: len(content) - place]


def swap_blocks(content, random):
    size = int(random.choice([16, 512, 4096]))
    if 2 * size >= len(content):
        return
    a, b = sorted(random.integers(len(content) // size, size=2) * size)
    first, second = content[a : a + size], content[b : b + size]
    if len(first) == len(second):
        content[a : a + size], content[b : b + size] = second, first


def remove_block(content, random):
    place = random.integers(len(content))
    del content[place : place + random.integers(1, 600)]


def repeat_block(content, random):
    place = random.integers(len(content))
    block = content[place : place + random.integers(1, 600)]
    content[place:place] = block


def forge_frame(content, random):
    """Gives a frame another size; the checksum is that of the new content."""
    size = int(random.choice([8, 39, 41, 20_000, 30_000, 60_000])), 60
    size = size[:: random.choice([-1, 1])]

    def change(payload):
        places = [i for i in range(len(payload)) if payload[i : i + 2] == b"\xff\xc0"]
        start = int(random.choice(places))
        return payload[:start] + forged(payload[start:], *size)

    change_record(content, random, change)


def forge_length(content, random):
    """Gives a record another length, with the checksum of that length."""
    lengths = [0, 1, 500, 2**20, 2**31 - 1, 2**31, 2**40, 2**63]
    offset, _ = record(content, random)
    content[offset : offset + 12] = framed(b"", int(random.choice(lengths)))[:12]


def record(content, random):
    offset, starts = 0, []
    while offset < len(content):
        starts.append((offset, struct.unpack_from("<Q", content, offset)[0]))
        offset += 16 + starts[-1][1]
    return starts[random.integers(len(starts))]


def change_record(content, random, change):
    offset, length = record(content, random)
    payload = bytes(content[offset + 12 : offset + 12 + length])
    content[offset : offset + 16 + length] = framed(change(payload))


OTHERS = (cut, overwrite, overwrite, swap_blocks, remove_block, repeat_block)
DAMAGES = (*[flip_bits] * 6, *OTHERS)
FORGERIES = (forge_frame, forge_length)


def damage(folder, random, number):
    """Damages the shard, or a file beside it; returns the name of the damage."""
    is_beside = number % 4 == 3
    path = folder / (str(random.choice(_NAMES)) if is_beside else _SHARD)
    content = bytearray(path.read_bytes())
    choices = DAMAGES if is_beside or number % 4 else FORGERIES
    change = choices[random.integers(len(choices))]
    change(content, random)
    path.write_bytes(content)
    if not is_beside and random.random() < 0.3:
        (folder / _NAMES[0]).unlink()
    return change.__name__


def are_replaced(views, expected):
    """Whether all frames that differ are others of the sound video."""
    sound = {frame.tobytes() for frame in expected.reshape(-1, *expected.shape[2:])}
    frames = views.reshape(-1, *views.shape[2:])
    return all(frame.tobytes() in sound for frame in frames)


def check(numbers, sound, read, tmp_path, caplog):
    expected = read(sound)
    assert len(expected) == 9
    contents = {path.name: path.read_bytes() for path in sound.iterdir()}
    folder, seconds, given = tmp_path / "damaged", [], collections.Counter()
    folder.mkdir()
    for number in numbers:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        kind = damage(folder, np.random.default_rng([_SEED, number]), number)
        caplog.clear()
        start = time.monotonic()
        found = read(folder)
        seconds.append(time.monotonic() - start)
        given[kind] += len(found)
        for name, (labels, views) in found.items():
            assert labels == expected[name][0], (number, kind, name)
            if not np.array_equal(views, expected[name][1]):
                # A frame with a forged header is lost, as is said in a warning.
                assert kind == "forge_frame" and "are lost" in caplog.text, number
                assert are_replaced(views, expected[name][1]), number
                given["replaced"] += 1
        if number % 4 == 3:
            assert found.keys() == expected.keys(), (number, kind)
    return max(seconds), given


def test_damaged_shards_give_the_pixels_of_sound_ones(sound, read, tmp_path, caplog):
    check(range(40), sound, read, tmp_path, caplog)


@pytest.mark.hostile
def test_five_hundred_damaged_shards(sound, read, tmp_path, caplog):
    before = peak_memory()
    slowest, given = check(range(500), sound, read, tmp_path, caplog)
    print(f"slowest {slowest:.1f} s, {peak_memory():.0f} MiB, videos read: {given}")
    assert slowest < 60
    assert peak_memory() - before < 500
    # Most videos are sound in spite of the damage elsewhere in the shard.
    assert sum(given.values()) > 500 * 9 / 2


def peak_memory():
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
