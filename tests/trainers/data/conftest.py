"""Videos whose frames show their number, so that tests see which were read."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.data.record_files import SETTINGS
from trainers.video_classification.data import write_video

_BITS = 9


class NumberedClips:
    """Writes and reads videos of numbered frames.

    Frame n shows n in binary: `_BITS` columns, black or white, repeated in
    every row; it survives compression, scaling and, but for its order, flips.
    """

    def frames(self, count, height=48, width=72):
        columns = np.arange(width) * _BITS // width
        for number in range(count):
            bits = number >> columns & 1
            row = np.where(bits, 220, 30).astype(np.uint8)
            yield np.broadcast_to(row[None, :, None], (height, width, 3))

    def write(self, path, count=40, height=48, width=72, **kwargs):
        write_video(str(path), self.frames(count, height, width), **kwargs)
        return str(path)

    def numbers(self, images):
        """(..., height, width, 3) -> (...): the numbers the frames show."""
        width = images.shape[-2]
        centres = ((np.arange(_BITS) + 0.5) * width / _BITS).astype(int)
        height = images.shape[-3]
        bits = images[..., height // 2, centres, 1] > 125
        return (bits << np.arange(_BITS)).sum(-1)


@pytest.fixture(scope="session")
def clips():
    return NumberedClips()


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory, clips):
    """Three classes, nine videos; each of another length."""
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("dive", "jump", "run")):
        (root / name).mkdir()
        for i in range(3):
            count = 20 + 4 * (3 * number + i)
            clips.write(root / name / f"v{i}.mp4", count)
    return root


@pytest.fixture
def clip_config():
    from trainers.video_classification.data.configs import ClipConfig

    return ClipConfig(num_frames=4, temporal_stride=2)


@pytest.fixture
def data_config(video_folder):
    # Not above: the tests of tensorflow-io run without the Model Garden.
    from trainers.video_classification.data.configs import DataConfig

    def make(**overrides):
        settings = dict(
            input_path=str(video_folder),
            is_training=True,
            global_batch_size=4,
            min_short_side=32,
            max_short_side=40,
            crop_size=28,
            num_parallel_decodes=2,
        )
        return DataConfig(**(settings | overrides))

    return make


@pytest.fixture
def index(data_config):
    """Of `video_folder`."""
    from trainers.video_classification.data import load_index

    return load_index(data_config())


@pytest.fixture
def shards(tmp_path, index):
    """Folder of two shards of `video_folder`."""
    from trainers.video_classification.data.tfrecords.shards import write_shards

    folder = tmp_path / "records"
    write_shards(index, str(folder), **SETTINGS)
    return folder


@pytest.fixture(scope="session")
def shared_clips():
    folder = pathlib.Path(__file__).resolve().parents[3].parent / "shared" / "clips"
    if not folder.is_dir():
        pytest.skip("needs the real clips beside the project")
    return folder


_HOLD_LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stall():
    """Function after which opening a file blocks, as on a disk that does not answer.

    Another process holds a lease on the file; Linux makes all others wait, 45 s by
    default, for it to give the lease back. Nothing interrupts them.
    """
    holders = []

    def hold(path):
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD_LEASE, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        holders.append(holder)
        if holder.stdout.readline() != b"held\n":
            pytest.skip("this file system has no leases")

    yield hold
    for holder in holders:
        holder.communicate()  # it ends, and the others go on
