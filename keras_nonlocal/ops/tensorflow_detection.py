"""What detection takes from TensorFlow; imported on TensorFlow only."""

import tensorflow as tf

CHANNELS = 32  # whose points RoIAlign has in memory at once


def compiled(function, *inputs):
    """`tf.function`, traced once; `inputs` are `(shape, dtype)` of the arguments."""
    signature = [tf.TensorSpec(*one) for one in inputs]
    return tf.function(function, input_signature=signature)


def take_rows(x, index):
    """`(..., N, D...)` and indices `(..., n)` to `(..., n, D...)`."""
    return tf.gather(x, index, batch_dims=len(index.shape) - 1)


def pool_regions(maps, regions, bins, samples):
    """RoIAlign: `(R, bins, bins, C)` float32, means of `samples` x `samples` points.

    Args:
        maps: List of `(B, H_k, W_k, C)`.
        regions: Of each map `(rows, image_indices, corners, steps)`: which of the R
            results come from it, and their points, corner + i * step in cells.
        bins, samples: Ints.
    """
    rows = [tf.cast(one[0], tf.int32) for one in regions]
    rois = [
        (_corners(x, *grid, bins * samples), tf.cast(images, tf.int32))
        for x, (_, images, *grid) in zip(maps, regions, strict=True)
    ]
    sizes = [tf.shape(x)[:3] + [0, 2, 2] for x in maps]  # with their edges

    def forward(*maps):
        parts = zip(maps, rois, strict=True)
        pooled = [_pool(x, *roi, bins, samples) for x, roi in parts]
        return [tf.dynamic_stitch(rows, pooled)]

    def backward(dy):
        parts = zip(rows, rois, sizes, maps, strict=True)
        return [
            tf.cast(_pool_gradient(tf.gather(dy, row), *roi, size, samples), x.dtype)
            for row, roi, size, x in parts
        ]

    @tf.custom_gradient
    def pool(*maps):
        return _by_channels(forward, *maps)[0], lambda dy: _by_channels(backward, dy)

    return pool(*maps)


def _by_channels(function, *arrays):
    """`function` of some channels of `arrays` after others; its results joined.

    What it needs in between is in memory for `CHANNELS` of them only. In groups of
    regions instead, each would add a pass over the maps to the gradient.
    """
    parts = []
    for first in range(0, arrays[0].shape[-1], CHANNELS):
        with tf.control_dependencies(parts[-1] if parts else []):
            parts.append(function(*(x[..., first : first + CHANNELS] for x in arrays)))
    return [tf.concat(one, axis=-1) for one in zip(*parts, strict=True)]


# One more row and column of edge values around a map: positions up to one cell outside
# of it have those.
_EDGE = {"paddings": [[0, 0], [1, 1], [1, 1], [0, 0]], "mode": "SYMMETRIC"}


def _corners(features, corners, steps, count):
    """The first and last of `count` points, as `crop_and_resize` expects them."""
    last = tf.cast(tf.shape(features)[1:3] + 1, tf.float32)
    first, final = corners + 1, corners + 1 + (count - 1) * steps
    return tf.concat([first / last, final / last], axis=1)


def _pool(features, boxes, image_indices, bins, samples):
    features = tf.pad(tf.cast(features, tf.float32), **_EDGE)
    sides = [bins * samples] * 2
    points = tf.image.crop_and_resize(features, boxes, image_indices, sides)
    return tf.nn.avg_pool2d(points, samples, samples, "VALID")


def _pool_gradient(dy, boxes, image_indices, size, samples):
    """The gradient of `_pool` in `features`, of `size` (B, H, W) with their edges."""
    windows = [1, samples, samples, 1]
    points = tf.raw_ops.AvgPoolGrad(
        orig_input_shape=tf.shape(dy) * windows,
        grad=dy,
        ksize=windows,
        strides=windows,
        padding="VALID",
    )
    padded = tf.raw_ops.CropAndResizeGradImage(
        grads=points,
        boxes=boxes,
        box_ind=image_indices,
        image_size=tf.concat([size, dy.shape[-1:]], axis=0),
        T=dy.dtype,
    )
    return tf.raw_ops.MirrorPadGrad(input=padded, **_EDGE)


def non_max_suppression(boxes, scores, iou_threshold, least_score, count):
    """See `ops.non_max_suppression`."""
    boxes, scores, classes, valid = tf.image.combined_non_max_suppression(
        boxes,
        scores,
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=iou_threshold,
        score_threshold=least_score,
        clip_boxes=False,
    )
    return boxes, scores, tf.cast(classes, tf.int32), valid


def resize(image, size):
    """Bilinear, without smoothing: `(H, W, C)` to `size`, in float32."""
    return tf.image.resize(image, size, method="bilinear", antialias=False)


def map_rows(function, arrays):
    """`function` of one row of each of `arrays` after another, stacked; in float32.

    Two rows at a time: what `function` needs in between, it needs twice.
    """
    return tf.map_fn(
        lambda row: function(*row),
        arrays,
        fn_output_signature=tf.float32,
        parallel_iterations=2,
    )
