"""tensorflow-io: the error if it does not work, and its results if it does.

The marked tests need an environment of its own (TensorFlow 2.17 with
tensorflow-io 0.37.1, and FFmpeg 4 on LD_LIBRARY_PATH), without the Model Garden.
"""

import dataclasses
import functools
import http.server
import threading
import types

import numpy as np
import pytest

from trainers.video_classification.data import (
    DataError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.decoding import tfio
from trainers.video_classification.data.decoding.pyav import PyAVFrames
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits
from trainers.video_classification.data.protocols import PROTOCOLS

CLIP = types.SimpleNamespace(
    num_frames=4,
    temporal_stride=2,
    fps=None,
    stride_at=lambda frame_rate: 2,
    mean=None,
    std=None,
    check=lambda: None,
)


@dataclasses.dataclass
class Settings:
    """Stands in for `DataConfig`, which needs the Model Garden."""

    input_path: str = ""
    index_format: str = "auto"
    video_root: str = ""
    class_file: str = ""
    split: str = ""
    is_multilabel: bool = False
    is_training: bool = True
    global_batch_size: int = 2
    min_short_side: int = 32
    max_short_side: int = 40
    crop_size: int = 28
    horizontal_flip: bool = True
    num_test_clips: int = 2
    num_test_crops: int = 1
    test_protocol: str = "spread"
    protocol = PROTOCOLS["spread"]
    sampling_exponent: float = 1.0
    frame_rate: float = 0.0
    decoder: str = "tfio"
    max_broken_fraction: float = 0.1
    limits: Limits = DEFAULT_LIMITS
    num_parallel_decodes: int = 2
    prefetch_buffer_size: int | None = None
    deterministic: bool | None = None
    frame_cache: str = ""
    frame_cache_gib: float = 0.0
    enable_tf_data_service: bool = False

    def check(self):
        """Nothing: these values are valid."""

    check_batch_size = check

    def check_clip(self, clip):
        """Nothing, as well."""


def settings(path, **overrides):
    return Settings(str(path), **overrides)


def test_the_error_names_the_requirements(tmp_path):
    try:
        tfio.load_tfio()
    except DataError as error:
        assert "TensorFlow 2.16 or 2.17 (this is " in str(error)
        assert "pip install -e .[tfio]" in str(error)
    else:
        pytest.skip("tensorflow-io works here")
    for use in (
        lambda: load_index(settings(tmp_path)),
        lambda: read_views(str(tmp_path / "a.mp4"), settings(tmp_path), CLIP),
    ):
        with pytest.raises(DataError, match="`decoder: tfio` does not work here"):
            use()


def test_an_unknown_decoder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"Unknown `decoder`.*'pyav', 'tfio'.*'pav'"):
        load_index(settings(tmp_path, decoder="pav"))


@pytest.mark.tfio
def test_it_reads_the_same_frames_as_pyav(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 30, 48, 64)
    assert isinstance(tfio.open_tfio(path), tfio.TfioFrames)
    with_tfio = read_views(path, settings(tmp_path), CLIP)
    with_pyav = read_views(path, settings(tmp_path, decoder="pyav"), CLIP)
    assert np.abs(with_tfio.astype(int) - with_pyav.astype(int)).mean() < 2


@pytest.mark.tfio
def test_pyav_decodes_the_videos_it_decodes_wrongly(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 10, 48, 68)
    assert isinstance(tfio.open_tfio(path), PyAVFrames)


@pytest.mark.tfio
def test_batches_are_made_with_it(tmp_path, clips):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        clips.write(tmp_path / name / "v.mp4", 20, 48, 64)
    data = settings(tmp_path)
    batch = next(iter(make_dataset(load_index(data), data, CLIP)))
    np.testing.assert_array_equal(batch["label"], batch["video"])
    assert batch["clip"].shape == (2, 4, 28, 28, 3)


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as object stores do."""

    def do_GET(self):
        with open(self.translate_path(self.path), "rb") as file:
            data = file.read()
        span = self.headers.get("Range", f"bytes=0-{len(data)}")
        first, last = span.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args):
        pass


@pytest.mark.tfio
def test_its_file_systems_are_read(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 20, 48, 64)

    handler = functools.partial(RangeHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = f"http://127.0.0.1:{server.server_port}/a.mp4"
        (tmp_path / "list.txt").write_text(f"{remote} 0\n")
        index = load_index(settings(tmp_path / "list.txt"))
        got = read_views(index.videos[0].path, settings(tmp_path), CLIP)
        server.shutdown()
    np.testing.assert_array_equal(got, read_views(path, settings(tmp_path), CLIP))
