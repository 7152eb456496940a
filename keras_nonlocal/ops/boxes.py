"""Boxes: x1, y1, x2, y2 in pixels, (0, 0) being the image's top left corner."""

import math

from keras import ops

# Weights of (dx, dy, dw, dh): of proposals against anchors, of boxes against proposals.
RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

LARGEST_SCALING = math.log(1000 / 16)  # of dw and dh, in decoding


def encode(boxes, references, weights=BOX_WEIGHTS):
    """The deltas that `decode` turns `references` into `boxes` with.

    dx = w_x (x - x_r) / width_r, dw = w_w log(width / width_r), x being the centre;
    likewise in y.

    Args:
        boxes: `(..., 4)`. A width or height of zero gives infinite deltas.
        references: `(..., 4)`: anchors or proposals.
        weights: Of dx, dy, dw and dh.

    Returns:
        `(..., 4)`.

    Example:
    >>> deltas = encode(np.array([2.0, 0, 6, 4]), np.array([0.0, 0, 4, 4]))
    >>> keras.ops.convert_to_numpy(deltas).tolist()
    [5.0, 0.0, 0.0, 0.0]
    """
    (x, y, w, h), (rx, ry, rw, rh) = map(_centers_and_sides, (boxes, references))
    deltas = [(x - rx) / rw, (y - ry) / rh, ops.log(w / rw), ops.log(h / rh)]
    pairs = zip(weights, deltas, strict=True)
    return ops.stack([weight * delta for weight, delta in pairs], axis=-1)


def decode(deltas, references, weights=BOX_WEIGHTS):
    """Boxes from `deltas` relative to `references`; see `encode`.

    dw and dh are at most log(1000 / 16), so that no box overflows.

    Args:
        deltas: `(..., 4)`.
        references: `(..., 4)`, to be broadcast.
        weights: Of dx, dy, dw and dh.

    Returns:
        `(..., 4)`.
    """
    deltas = ops.convert_to_tensor(deltas)
    rx, ry, rw, rh = _centers_and_sides(references)
    dx, dy, dw, dh = (deltas[..., i] / weights[i] for i in range(4))
    x, y = dx * rw + rx, dy * rh + ry
    w = ops.exp(ops.minimum(dw, LARGEST_SCALING)) * rw
    h = ops.exp(ops.minimum(dh, LARGEST_SCALING)) * rh
    return ops.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)


def clip(boxes, sizes):
    """The parts of boxes that are within their images.

    Args:
        boxes: `(B, ..., 4)`.
        sizes: `(B, 2)`: (height, width) of each image.
    """
    boxes = ops.convert_to_tensor(boxes)
    sizes = ops.cast(sizes, boxes.dtype)
    limits = ops.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
    limits = ops.reshape(limits, (-1, *(1,) * (len(boxes.shape) - 2), 4))
    return ops.minimum(ops.maximum(boxes, 0), limits)


def iou(boxes, others):
    """Intersection over union of all pairs.

    Args:
        boxes: `(..., N, 4)`.
        others: `(..., M, 4)`.

    Returns:
        `(..., N, M)`; 0 where neither box has an area.

    Example:
    >>> pairs = iou(np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 0, 6, 4]]))
    >>> round(float(pairs[0, 0]), 4)
    0.3333
    """
    boxes, others = map(ops.convert_to_tensor, (boxes, others))
    areas = area(boxes)[..., :, None] + area(others)[..., None, :]
    first, second = boxes[..., :, None, :], others[..., None, :, :]
    corner = ops.maximum(first[..., :2], second[..., :2])
    sides = ops.maximum(ops.minimum(first[..., 2:], second[..., 2:]) - corner, 0)
    common = sides[..., 0] * sides[..., 1]
    union = areas - common
    return ops.where(union > 0, common / ops.where(union > 0, union, 1), 0)


def area(boxes):
    """Areas `(...,)` of boxes `(..., 4)`."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def has_sides(boxes, least):
    """Whether both sides of boxes `(..., 4)` are at least `least` pixels."""
    return ops.minimum(*(boxes[..., i + 2] - boxes[..., i] for i in (0, 1))) >= least


def _centers_and_sides(boxes):
    boxes = ops.convert_to_tensor(boxes)
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    w, h = x2 - x1, y2 - y1
    return x1 + w / 2, y1 + h / 2, w, h
