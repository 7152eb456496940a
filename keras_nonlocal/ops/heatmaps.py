"""Keypoints from heatmaps."""

from keras import ops

from keras_nonlocal.ops.backends import detection_kernels

SHARPNESS = -0.75  # of the bicubic kernel


def decode_keypoints(heatmaps, boxes):
    """The place and the height of each keypoint's maximum.

    Each heatmap is enlarged to the whole pixels of its box by bicubic interpolation
    (a = -0.75; no smoothing); the place is the centre of the pixel of the maximum.

    Args:
        heatmaps: `(N, m, m, K)` logits.
        boxes: `(N, 4)` in pixels.

    Returns:
        `(keypoints, scores)`: `(N, K, 2)` x, y in pixels, and `(N, K)`, the
        interpolated logits.

    Raises:
        NotImplementedError: On another backend than TensorFlow.
    """
    kernels = detection_kernels()
    maps = ops.transpose(ops.cast(heatmaps, "float32"), (0, 3, 1, 2))
    boxes = ops.cast(boxes, "float32")
    found = kernels.map_rows(_maximum, (maps, boxes))
    return found[..., :2], found[..., 2]


def _maximum(maps, box):
    """`(K, 3)`: x, y and value of the maxima of `(K, m, m)` within a box."""
    sides = ops.maximum(box[2:] - box[:2], 1)
    pixels = ops.ceil(sides)
    width, height = (ops.cast(pixels[i], "int32") for i in (0, 1))
    count, size, _ = maps.shape
    rows, columns = _bicubic(size, height), _bicubic(size, width)
    enlarged = ops.matmul(ops.matmul(rows, maps), ops.transpose(columns))
    enlarged = ops.reshape(enlarged, (count, -1))
    place = ops.argmax(enlarged, axis=-1)
    xy = ops.cast(ops.stack([place % width, place // width], axis=-1), "float32")
    xy = (xy + 0.5) * (sides / pixels) + box[:2]
    return ops.concatenate([xy, ops.max(enlarged, axis=-1)[:, None]], axis=-1)


def _bicubic(size, count):
    """`(count, size)`: what each of `count` positions takes from `size` cells."""
    numbers = ops.cast(ops.arange(count), "float32")
    positions = (numbers + 0.5) * (size / ops.cast(count, "float32")) - 0.5
    low = ops.floor(positions)
    weights = 0
    for tap in (-1, 0, 1, 2):
        cell = ops.cast(ops.clip(low + tap, 0, size - 1), "int32")
        weight = _cubic(ops.abs(positions - (low + tap)))
        weights = weights + weight[:, None] * ops.one_hot(cell, size)
    return weights


def _cubic(distance, a=SHARPNESS):
    """Keys's kernel at a distance of at most 2 cells."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return ops.where(distance <= 1, near, far)
