"""Opens video files. Whatever a library raises about one is a `VideoError` of it.

The calls of the library are in this module and in `picture.py`, so that errors
of our own code are not taken for broken videos.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import stat
from collections.abc import Iterator, Sequence

import av
import tensorflow as tf
from av.stream import Disposition

from trainers.core import files
from trainers.video_classification.data import watchdog
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import Limits, too_much

# Formats of libav that hold a video themselves. Others open further files or
# addresses that are named in them (hls, concat, dash, image2, sdp, ...).
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,"
    "ogg,gif,apng,h261,h263,h264,hevc,vvc,m4v,mjpeg,obu,av1,ivf,dv,mxf,nut,nsv,rm,wtv,"
    "swf,vc1,cavsvideo,dirac,yuv4mpegpipe"
)
RTSP = ("rtsp://", "rtsps://")
_TIMEOUT = (10.0, 30.0)  # seconds to open a network camera, and to wait for a packet
_LARGEST_ALLOCATION = 2**27  # bytes; a short header can claim millions of frames


@contextlib.contextmanager
def video_errors(
    path: str, kinds: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Context for calls of a library: what it raises becomes a `VideoError`.

    Args:
        path: The video.
        kinds: Of exceptions; those that our own code cannot raise, if there is any
            in the context.
    """
    try:
        yield
    except VideoError:
        raise
    except kinds as error:
        raise VideoError(path, f"cannot be decoded ({_reason(error)})") from error


@contextlib.contextmanager
def opened(path: str, content: bytes | None, limits: Limits) -> Iterator[VideoFile]:
    """Opens a file, or its `content`; it is closed at the end of the context.

    Raises:
        VideoError: Not a video, no video in it, or above a limit.
    """
    # By the protocol `file:`, "12:30.mp4" is no protocol of its own.
    source = f"file:{os.path.abspath(path)}" if content is None else io.BytesIO(content)
    with _opened(path, source, limits, _FORMATS, "file") as file:
        yield file


@contextlib.contextmanager
def opened_live(path: str, limits: Limits) -> Iterator[VideoFile]:
    """Opens an input of `live.is_live`; it is closed at the end of the context.

    Raises:
        VideoError: It cannot be reached, or is not a video.
    """
    if path.startswith(RTSP):
        options = {"rtsp_transport": "tcp"}  # loses no packets
        protocols = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"
        more = {"options": options, "timeout": _TIMEOUT}
        context = _opened(path, path, limits, f"{_FORMATS},rtsp", protocols, **more)
    elif is_device(path):
        context = _opened(path, path, limits, "v4l2", "file", format="v4l2")
    else:
        source = "pipe:0" if path == "-" else f"file:{os.path.abspath(path)}"
        context = _opened(path, source, limits, _FORMATS, "pipe,file")
    with context as file:
        yield file


def is_device(path: str) -> bool:
    """Whether the path is a device, such as a camera."""
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISCHR(os.stat(path).st_mode)
    return False


@contextlib.contextmanager
def _opened(path, source, limits, formats, protocols, options=None, **more):
    _bound_allocations(limits)
    whitelists = {"format_whitelist": formats, "protocol_whitelist": protocols}
    if more.get("format"):  # of a device, which is not looked for
        del whitelists["format_whitelist"]
    with video_errors(path):
        container = av.open(
            source,
            options={"max_pixels": str(limits.pixels)},
            container_options={**whitelists, **(options or {})},
            metadata_errors="replace",  # not always UTF-8, and not used here
            **more,
        )
    with container:
        yield VideoFile(path, container, limits)


class VideoFile:
    """An open video file, and the first video stream in it.

    Attributes:
        path: The file.
        format: Name of the container format.
        frame_rate: Average; 0 if unknown.
        time_base: Seconds of a unit of its timestamps.
    """

    def __init__(self, path: str, container, limits: Limits):
        self.path = path
        self._container, self._limits = container, limits
        self._kept = None
        with video_errors(path):
            self._stream = _video_stream(container, path)
            self._context = context = self._stream.codec_context
            self._check_size(context.width, context.height)
            self.format = container.format.name
            self.frame_rate = float(self._stream.average_rate or 0)
            self.time_base = self._stream.time_base
            # Clips are decoded in parallel already; libav's own threads would compete
            # with these, and its frame threads can deadlock with Python's logging.
            context.thread_type, context.thread_count = "NONE", 1
            context.options = {"max_pixels": str(limits.pixels)}

    def keep(self, packets: Sequence[av.Packet]) -> None:
        """Makes these the packets, also after the file has been closed."""
        self._kept = packets

    def packets(self) -> Iterator[av.Packet]:
        """The packets of the video, up to the first that cannot be read."""
        kept = self._kept
        packets = self._container.demux(self._stream) if kept is None else iter(kept)
        while True:
            watchdog.check()
            try:
                packet = next(packets, None)
            except Exception:
                return  # damaged or cut short; the packets before can be decoded
            if packet is None:
                return
            yield packet

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """The frames that a packet completes; none if it is damaged.

        After the last one, None gives the frames that the decoder still holds.
        """
        try:
            frames = self._context.decode(packet)
        except Exception:
            return []
        for frame in frames:
            self._check_size(frame.width, frame.height)
        return frames

    def seek(self, time: int) -> None:
        """Goes to the keyframe at or before a time; not in packets that are kept."""
        if self._kept is not None:
            return
        with video_errors(self.path):
            self._container.seek(time, stream=self._stream)

    def skip_unreferenced(self, skip: bool) -> None:
        """Whether frames that no other one refers to are decoded from here on."""
        self._context.skip_frame = "NONREF" if skip else "DEFAULT"

    def _check_size(self, width: int, height: int) -> None:
        limit = self._limits.pixels
        if not width * height:  # libav hides the size of frames that are too large
            found = "the size of its frames is unknown or too large"
            raise too_much(self.path, found, "pixels", limit)
        if width * height > limit:
            found = f"has frames of {width} x {height} pixels"
            raise too_much(self.path, found, "pixels", limit)


def check_file(path: str, limits: Limits) -> os.stat_result:
    """The status of a local video file.

    Raises:
        VideoError: No such file, not a regular one, or above a limit.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise VideoError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError(path, f"cannot be read ({_reason(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(path, "not a regular file")
    _check_bytes(path, status.st_size, limits)
    return status


def fetch(path: str, limits: Limits) -> bytes:
    """Reads a file on one of TensorFlow's file systems.

    Raises:
        VideoError: It cannot be read, or is above a limit.
    """
    try:
        with files.errors(path, "cannot be read"):
            _check_bytes(path, tf.io.gfile.stat(path).length, limits)
        return files.read_bytes(path)
    except files.FileError as error:
        raise VideoError(path, error.reason) from error


def _check_bytes(path: str, size: int, limits: Limits) -> None:
    if not size:
        raise VideoError(path, "is empty")
    if size > limits.bytes:
        raise too_much(path, f"has {size} bytes", "bytes", limits.bytes)


def _video_stream(container, path: str):
    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise VideoError(path, "has no video stream")
    if moving[0].codec_context is None:
        raise VideoError(path, "is in a format that this FFmpeg has no decoder for")
    return moving[0]


def _bound_allocations(limits: Limits) -> None:
    """Bounds the size of what libav allocates at once, in the whole process."""
    largest = max(_LARGEST_ALLOCATION, 4 * limits.pixels)
    with contextlib.suppress(OSError, AttributeError):
        _libav().av_max_alloc(ctypes.c_size_t(largest))


@functools.cache
def _libav() -> ctypes.CDLL:
    """The libraries that PyAV uses."""
    return ctypes.CDLL(av._core.__file__)


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    kind = type(error).__name__
    text = getattr(error, "strerror", None) or f"{kind}: {error}"
    if isinstance(error, av.ArgumentError):
        text += ": damaged, or in a format that is not read, such as a playlist"
    return (text.splitlines() or [kind])[0]
