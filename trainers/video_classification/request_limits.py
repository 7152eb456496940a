"""Limits on a request to an exported network, checked in its graph.

A request above a limit ends in an InvalidArgumentError that names the limit and what
was received. What it would take much memory for has not been done by then: frames are
measured by their headers before any of them is decoded.
"""

import re

import tensorflow as tf

_JPEG_START = b"\xff\xd8\xff"


def checked_clips(clips: tf.Tensor, limits, crop_size: int, num_frames: int):
    """`clips`, after a check of its shape.

    Args:
        clips: uint8 `(batch, frames, height, width, 3)`.
        limits: `ExportConfig`.
        crop_size: Side of the square that every frame becomes.
        num_frames: Of the clips that shorter ones become.
    """
    batch, frames, height, width, _ = tf.unstack(tf.shape(clips, tf.int64))
    pixels = height * width
    checks = [
        _check_batch(batch),
        _check_length(batch, frames, num_frames, limits),
        _check_frame(height, width, limits),
        _check_total(batch * frames * _counted(pixels, crop_size), limits),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(clips)


def checked_frames(frames: tf.Tensor, limits, crop_size: int, num_frames: int):
    """`frames`, after a check of their number, bytes and the sizes in their headers.

    Args:
        frames: Encoded frames, `(batch, frames)`.
        limits: `ExportConfig`.
        crop_size: Side of the square that every frame becomes.
        num_frames: Of the clips that shorter ones become.
    """
    sizes = tf.strings.length(frames)
    batch, length = tf.unstack(tf.shape(frames, tf.int64))
    checks = [
        _check_batch(batch),
        _check_length(batch, length, num_frames, limits),
        _check(
            tf.reduce_all(sizes <= limits.max_frame_bytes),
            "A frame of the request has {} bytes",
            [tf.reduce_max(sizes)],
            limits,
            "max_frame_bytes",
        ),
        _check_total(
            tf.size(frames, tf.int64) * _counted(tf.zeros((), tf.int64), crop_size),
            limits,
        ),
    ]
    with tf.control_dependencies(checks):
        flat = tf.reshape(frames, [-1])
    pixels = tf.map_fn(
        lambda frame: _pixels_of_jpeg(frame, limits), flat, fn_output_signature=tf.int64
    )
    total = tf.reduce_sum(_counted(pixels, crop_size))
    with tf.control_dependencies([_check_total(total, limits)]):
        return tf.identity(frames)


def checked_positions(positions: tf.Tensor, clips: tf.Tensor, limits) -> tf.Tensor:
    """`positions`, after a check of their number, and that they lie in the clips.

    Args:
        positions: float32 `(positions, 3)`: frame, row and column.
        clips: `(batch, frames, height, width, 3)`.
        limits: `ExportConfig`.
    """
    batch = tf.shape(clips, tf.int64)[0]
    number = batch * tf.shape(positions, tf.int64)[0]
    is_few = tf.logical_and(number >= 1, number <= limits.max_positions)
    received = "The request has {} positions, counted for each clip"
    # Written so that a NaN fails too.
    size = tf.cast(tf.shape(clips)[1:4], tf.float32)
    lies_in = tf.reduce_all((positions >= -0.5) & (positions <= size - 0.5))
    message = "A position (frame, row, column) of the request lies outside the clip."
    checks = [
        _check(is_few, received, [number], limits, "max_positions"),
        tf.debugging.Assert(lies_in, [message]),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(positions)


def _pixels_of_jpeg(frame: tf.Tensor, limits) -> tf.Tensor:
    """Number of pixels by the header of a frame, after a check."""
    is_jpeg = tf.strings.substr(frame, 0, len(_JPEG_START)) == _JPEG_START
    message = "A frame of the request is not a JPEG: encode all frames as JPEG."
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg, [message])]):
        shape = tf.io.extract_jpeg_shape(frame, tf.int32)
    height, width = tf.cast(shape[0], tf.int64), tf.cast(shape[1], tf.int64)
    with tf.control_dependencies([_check_frame(height, width, limits)]):
        return height * width


def _counted(pixels: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Pixels of a frame for the total: of the square, if that has more."""
    return tf.maximum(pixels, crop_size**2)


def _check_batch(batch: tf.Tensor) -> tf.Operation:
    message = "The request has no clips: send at least one."
    return tf.debugging.Assert(batch >= 1, [message])


def _check_length(batch: tf.Tensor, frames: tf.Tensor, num_frames: int, limits):
    received = "A clip of the request has {} frames"
    fits = frames <= limits.max_frames
    check = _check(fits, received, [frames], limits, "max_frames")
    total = batch * tf.maximum(frames, num_frames)
    fits = total <= limits.max_request_frames
    received = "The clips of the request have {} frames"
    with tf.control_dependencies([check]):
        return _check(fits, received, [total], limits, "max_request_frames")


def _check_frame(height: tf.Tensor, width: tf.Tensor, limits) -> tf.Operation:
    pixels = height * width
    fits = tf.logical_and(pixels >= 1, pixels <= limits.max_frame_pixels)
    received = "A frame of the request has {} x {} pixels (height x width)"
    return _check(fits, received, [height, width], limits, "max_frame_pixels")


def _check_total(pixels: tf.Tensor, limits) -> tf.Operation:
    fits = pixels <= limits.max_request_pixels
    received = "The frames of the request have {} pixels"
    return _check(fits, received, [pixels], limits, "max_request_pixels")


def _check(fits, received: str, values, limits, name: str) -> tf.Operation:
    limit = f"; expected 1 to {getattr(limits, name)} (task.export.{name})."
    return tf.debugging.Assert(fits, [tf.strings.format(received + limit, values)])


def reason(error: tf.errors.InvalidArgumentError) -> str:
    """The message of a check, without what TensorFlow adds to it."""
    found = re.search(r"assertion failed: \[(.*?)\]", error.message)
    return found[1] if found else error.message
