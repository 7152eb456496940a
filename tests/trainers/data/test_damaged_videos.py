"""A damaged video is read, or is an error that names it; never anything else."""

import collections
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

import pytest

from tests.trainers.data import damage
from trainers.video_classification.data import VideoError, read_views

_SEED = 10
_TS_PACKET = 188
_BEGINS_FRAME = b"\x41\x00"  # a packet of the video stream that does


def failures(rows):
    return [r for r in rows if r.get("outcome", "read") not in ("read", "broken")]


def test_damaged_videos_are_read_or_named(tmp_path):
    rows = list(damage.read_all(tmp_path, _SEED, range(40)))
    outcomes = collections.Counter(row["outcome"] for row in rows if "outcome" in row)
    assert not failures(rows)
    assert outcomes["read"] >= 20 and outcomes["broken"] >= 4


@pytest.mark.hostile
def test_a_thousand_damaged_videos_are_read_or_named(tmp_path):
    # In a process of its own, which a crash of a library would end.
    command = [sys.executable, damage.__file__, str(tmp_path), str(_SEED), "0", "1000"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=550)
    rows = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"seed {_SEED}, {rows[-1]}: {child.stderr[-2000:]}"
    ended = [row for row in rows if "outcome" in row]
    assert not failures(rows)
    assert len(ended) == 1000
    assert max(row["seconds"] for row in ended) < 60
    assert max(row["MiB"] for row in ended) < 2048


def test_a_stream_that_appears_midway_is_no_error(tmp_path, data_config, clip_config):
    # A flipped bit in the number of a stream makes another stream of its packet.
    content = damage.write_sources(tmp_path)["ts"]
    path, errors = tmp_path / "flipped.ts", []
    for start in range(_TS_PACKET * 30, len(content), _TS_PACKET):
        begins_frame = content[start + 1 : start + 3] == _BEGINS_FRAME
        for bit in range(5) if begins_frame else ():
            flipped = bytearray(content)
            flipped[start + 1] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                read_views(str(path), data_config(), clip_config)
            except VideoError:
                pass
            except Exception as error:
                errors.append((start, bit, repr(error)))
    assert not errors


def test_claimed_frames_take_no_memory(tmp_path, data_config, clip_config):
    # 7 kB whose header claims fifty million frames of one byte.
    content = bytearray(damage.write_sources(tmp_path)["mp4"])
    count = 50_000_000
    for tag, fields, offset in (
        (b"stsz", (1, count), 8),  # size of each, number
        (b"stsc", (1, count, 1), 12),  # of them in the first chunk
        (b"stts", (count, 512), 12),  # with this duration each
    ):
        struct.pack_into(
            f">{len(fields)}I", content, content.index(tag) + offset, *fields
        )
    path = tmp_path / "claims.mp4"
    path.write_bytes(content)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_memory()
    with pytest.raises(VideoError):
        read_views(str(path), data_config(), clip_config)
    assert peak_memory() - before < 500 * 1024


def peak_memory():
    """Of this process, in KiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])


# === Local names ===


@pytest.mark.parametrize(
    "name",
    [
        "12:30.mp4",
        "concat:a.mp4|b.mp4",
        "http:x.mp4",
        "subfile,,start,0,end,9,,:x.mp4",
        "a?b#c%20d e.mp4",
        "frame%03d.mp4",
        os.fsdecode(b"\xe9\xff.mp4"),
        "-i.mp4",
    ],
    ids=ascii,
)
def test_a_local_name_is_that_of_a_file(
    tmp_path, monkeypatch, clips, data_config, clip_config, name
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path(clips.write("plain.mp4", 12)).rename(name)
    views = read_views(name, data_config(), clip_config)
    assert views.shape == (1, 4, 28, 28, 3)


# === Files that name others ===


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.mp4", "ffconcat version 1.0\nfile sound.ts\n"),
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.ts\n"),
        ("a.ts", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.ts\n"),
        ("a.sdp", "v=0\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
        ("sound%1d.gif", "of sound0.gif and sound1.gif"),
        ("a.nfo", "Text that libav would draw.\n" * 20),
    ],
    ids=["concat", "hls", "hls.ts", "sdp", "images", "text"],
)
def test_files_named_in_a_file_are_not_opened(
    tmp_path, data_config, clip_config, name, text
):
    contents = damage.write_sources(tmp_path)
    for number in range(2):
        (tmp_path / f"sound{number}.gif").write_bytes(contents["gif"])
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(VideoError, match="cannot be decoded") as raised:
        read_views(str(path), data_config(), clip_config)
    assert raised.value.path == str(path)


def test_the_error_of_a_playlist_suggests_the_reason(
    tmp_path, data_config, clip_config
):
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile sound.ts\n")
    with pytest.raises(VideoError, match="a format that is not read, such as a playli"):
        read_views(str(path), data_config(), clip_config)
