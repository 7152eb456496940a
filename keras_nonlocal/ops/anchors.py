"""Anchors of a region proposal network over a feature pyramid."""

import numpy as np
from keras import ops

RATIOS = (0.5, 1.0, 2.0)


def base_anchors(size, ratios=RATIOS):
    """The anchors around (0, 0), rounded to whole pixels.

    Args:
        size: Side of the square of the same area, in pixels.
        ratios: Height over width.

    Returns:
        NumPy array `(ratios, 4)`: x1, y1, x2, y2.

    Example:
    >>> base_anchors(32, (1.0, 2.0)).tolist()
    [[-16.0, -16.0, 16.0, 16.0], [-11.0, -23.0, 11.0, 23.0]]
    """
    heights = np.sqrt(np.asarray(ratios, "float32"))
    sides = np.stack([1 / heights, heights], axis=-1) * np.float32(size)
    return np.round(np.concatenate([-sides, sides], axis=-1) / 2).astype("float32")


def pyramid_anchors(image_shape, grids, sizes, ratios=RATIOS):
    """The anchors of all levels, centred on multiples of each level's stride.

    A stride is the padded image's size over the level's (rounded down), as in
    torchvision: 61, and not 64, for 13 positions along 800 pixels.

    Args:
        image_shape: (height, width) of the padded image: ints or scalar tensors.
        grids: (height, width) of each level's feature map.
        sizes: Side of the anchors of each level, in pixels.
        ratios: Height over width.

    Returns:
        `(anchors, counts)`: `(A, 4)` x1, y1, x2, y2 in the order (level, y, x, ratio),
        and the number of anchors of each level.

    Example:
    >>> boxes, counts = pyramid_anchors((64, 96), [(2, 3)], [32])
    >>> counts
    [18]
    >>> keras.ops.convert_to_numpy(boxes[4]).tolist()  # the second position, its square
    [16.0, -16.0, 48.0, 16.0]
    """
    levels, counts = [], []
    for (rows, columns), size in zip(grids, sizes, strict=True):
        y = ops.arange(rows) * (image_shape[0] // rows)
        x = ops.arange(columns) * (image_shape[1] // columns)
        y, x = (ops.cast(centers, "float32") for centers in (y, x))
        y, x = ops.meshgrid(y, x, indexing="ij")
        centers = ops.reshape(ops.stack([x, y, x, y], axis=-1), (-1, 1, 4))
        levels.append(ops.reshape(centers + base_anchors(size, ratios), (-1, 4)))
        counts.append(rows * columns * len(ratios))
    return ops.concatenate(levels), counts
