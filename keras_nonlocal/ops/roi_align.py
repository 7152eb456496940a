"""RoIAlign (He et al., 2017): features of regions, by bilinear interpolation."""

from keras import backend, ops

from keras_nonlocal.ops.backends import detection_kernels
from keras_nonlocal.ops.boxes import area

SAMPLES = 2  # points along each side of a bin
FINEST = 2  # the level of stride 4 = 2**2


def roi_align(features, boxes, image_indices, output_size, scale, aligned=False):
    """Pools a `(n, n)` grid of bins from each box, each the mean of 2x2 points.

    torchvision's `roi_align` with `sampling_ratio=2`. Points are interpolated
    bilinearly; those more than one cell outside the map are 0.

    Args:
        features: `(B, H, W, C)`.
        boxes: `(R, 4)`: x1, y1, x2, y2 in pixels of the image. They get no gradient.
        image_indices: `(R,)` ints: the image of each box.
        output_size: Int n.
        scale: Cells of the map per pixel of the image, such as 1 / 4.
        aligned: Whether the centre of cell (0, 0) is at half a cell, as in Detectron2
            (Mask R-CNN's authors had it at 0). Then a box may be smaller than a cell;
            otherwise its sides are one cell at least.

    Returns:
        `(R, n, n, C)`, in float32 at least.

    Example:
    >>> ramp = np.arange(8.0, dtype="float32")[None, None, :, None].repeat(8, 1)
    >>> box = np.array([[2.0, 2.0, 6.0, 6.0]], "float32")
    >>> pooled = roi_align(ramp, box, np.array([0]), 2, scale=1.0)
    >>> keras.ops.convert_to_numpy(pooled)[0, 0, :, 0].tolist()
    [3.0, 5.0]
    """
    features = ops.convert_to_tensor(features)
    if features.dtype != "float64":
        features = ops.cast(features, "float32")
    boxes = ops.stop_gradient(ops.cast(boxes, features.dtype))
    grids = image_indices, *_grids(boxes, output_size, scale, aligned)
    if backend.backend() == "tensorflow" and features.dtype == "float32":
        regions = ops.arange(ops.shape(boxes)[0]), *grids
        return detection_kernels().pool_regions(
            [features], [regions], output_size, SAMPLES
        )
    points = _sample_grids(features, *grids, SAMPLES * output_size)
    # Strides are given: without them, Keras 3.15 fails on JAX.
    return ops.average_pool(points, SAMPLES, SAMPLES, data_format="channels_last")


def multilevel_roi_align(features, boxes, output_size):
    """`roi_align` of each box from the level of the pyramid that suits its size.

    Of level k = 4 + log2(sqrt(area) / 224), rounded down, within P2 to P5 (Eq. 1 of
    Lin et al., 2017).

    Args:
        features: P2 to P5, `(B, H_k, W_k, C)` each, of strides 4 to 32.
        boxes: `(B, n, 4)` in pixels of the image.
        output_size: Int m.

    Returns:
        `(B * n, m, m, C)`, in float32.

    Raises:
        NotImplementedError: On another backend than TensorFlow.
    """
    kernels = detection_kernels()
    batch, count = ops.shape(boxes)[:2]
    images = ops.repeat(ops.arange(batch), count)
    boxes = ops.stop_gradient(ops.reshape(ops.cast(boxes, "float32"), (-1, 4)))
    levels = _levels(boxes, len(features))
    regions = []
    for level in range(len(features)):
        [rows] = ops.nonzero(levels == level)
        grids = _grids(ops.take(boxes, rows, axis=0), output_size, _scale(level), False)
        regions.append((rows, ops.take(images, rows), *grids))
    return kernels.pool_regions(features, regions, output_size, SAMPLES)


def _scale(level):
    """Cells of a level, from P2 on, per pixel of the image."""
    return 0.5 ** (level + FINEST)


def _levels(boxes, count):
    """The index, from P2 on, of each box's level."""
    sides = ops.sqrt(area(boxes))
    level = ops.floor(4 + ops.log2(sides / 224) + 1e-6) - FINEST
    return ops.cast(ops.clip(level, 0, count - 1), "int32")


def _grids(boxes, output_size, scale, aligned):
    """First point and step of each box's grid, `(R, 2)` (y, x), in cells."""
    boxes = boxes * scale - (0.5 if aligned else 0.0)
    starts = ops.stack([boxes[:, 1], boxes[:, 0]], axis=1)
    ends = ops.stack([boxes[:, 3], boxes[:, 2]], axis=1)
    sides = ends - starts if aligned else ops.maximum(ends - starts, 1)
    steps = sides / (SAMPLES * output_size)
    return starts + steps / 2, steps


def _sample_grids(features, image_indices, corners, steps, count):
    """`(R, count, count, C)`: bilinear interpolation at corner + i * step."""
    batch, height, width, channels = ops.shape(features)
    numbers = ops.cast(ops.arange(count), corners.dtype)
    y, x = (corners[:, i, None] + numbers * steps[:, i, None] for i in (0, 1))
    rows, columns = _neighbours(y, height), _neighbours(x, width)
    cells = ops.reshape(features, (-1, channels))
    image = ops.cast(image_indices, "int32")[:, None, None] * (height * width)
    total = 0
    for row, row_weight in rows:
        for column, column_weight in columns:
            index = image + row[:, :, None] * width + column[:, None, :]
            weight = row_weight[:, :, None] * column_weight[:, None, :]
            total = total + weight[..., None] * ops.take(cells, index, axis=0)
    return total


def _neighbours(positions, size):
    """((index, weight), (index, weight)) of the two cells around each position."""
    inside = (positions >= -1) & (positions <= size)
    last = ops.cast(size - 1, positions.dtype)
    positions = ops.clip(positions, 0, last)
    low = ops.floor(positions)
    share, one = positions - low, ops.cast(inside, positions.dtype)
    high = ops.minimum(low + 1, last)
    pairs = (low, (1 - share) * one), (high, share * one)
    return [(ops.cast(index, "int32"), weight) for index, weight in pairs]
