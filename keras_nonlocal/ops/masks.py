"""Masks of boxes in the pixels of their images."""

import numpy as np


def paste_masks(masks, boxes, size, threshold=0.5):
    """Puts the small masks of boxes into an image's pixels.

    As the authors of Mask R-CNN do: with one cell of zeros around it, a mask is
    stretched over its box, enlarged likewise and cut to whole pixels, by bilinear
    interpolation.

    Args:
        masks: NumPy array `(n, m, m)` of probabilities.
        boxes: `(n, 4)`: x1, y1, x2, y2 in pixels of the image.
        size: (height, width) of the image.
        threshold: Pixels of a higher probability are the object's.

    Returns:
        `(n, height, width)` bool.

    Example:
    >>> boxes = np.array([[20.0, 10.0, 50.0, 30.0]])
    >>> [mask] = paste_masks(np.ones((1, 28, 28)), boxes, (60, 80))
    >>> mask.any(axis=0).nonzero()[0][[0, -1]].tolist()
    [19, 50]
    """
    pasted = np.zeros((len(masks), *size), bool)
    padded = np.pad(np.asarray(masks, "float32"), ((0, 0), (1, 1), (1, 1)))
    boxes = _enlarge(np.asarray(boxes, "float32"), padded.shape[-1] / masks.shape[-1])
    for image, mask, (x1, y1, x2, y2) in zip(pasted, padded, boxes, strict=True):
        rows = _bilinear(len(mask), y1, y2, size[0])
        columns = _bilinear(len(mask), x1, x2, size[1])
        part = rows @ mask @ columns.T > threshold
        top, left = max(y1, 0), max(x1, 0)
        image[top : top + len(rows), left : left + len(columns)] = part
    return pasted


def _enlarge(boxes, factor):
    """Boxes enlarged about their centres and cut to whole pixels."""
    centers = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    halves = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32(factor)
    return np.concatenate([centers - halves, centers + halves], axis=1).astype(int)


def _bilinear(size, start, end, limit):
    """What the pixels `start` to `end` take from `size` cells: `(pixels, size)`.

    Of those pixels the ones from 0 to `limit` - 1 only.
    """
    count = max(end - start + 1, 1)
    pixels = np.arange(max(start, 0), min(end + 1, limit)) - start
    positions = (pixels.astype("float32") + 0.5) * np.float32(size / count) - 0.5
    positions = positions.clip(0, size - 1).astype("float32")
    return np.maximum(1 - np.abs(positions[:, None] - np.arange(size)), 0).astype(
        "float32"
    )
