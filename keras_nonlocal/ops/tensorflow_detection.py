"""What detection takes from TensorFlow; imported on TensorFlow only."""

import tensorflow as tf


def compiled(function, *inputs):
    """`tf.function`, traced once; `inputs` are `(shape, dtype)` of the arguments."""
    signature = [tf.TensorSpec(*one) for one in inputs]
    return tf.function(function, input_signature=signature)


def take_rows(x, index):
    """`(..., N, D...)` and indices `(..., n)` to `(..., n, D...)`."""
    return tf.gather(x, index, batch_dims=len(index.shape) - 1)


def sample_grids(features, image_indices, corners, steps, count):
    """See `roi_align`: `(R, count, count, C)`, interpolated at corner + i * step."""
    # One more row and column of edge values around the map: positions up to one cell
    # outside of it have those.
    edge = [[0, 0], [1, 1], [1, 1], [0, 0]]
    features = tf.pad(features, edge, "SYMMETRIC")
    last = tf.cast(tf.shape(features)[1:3] - 1, tf.float32)
    first, final = corners + 1, corners + 1 + (count - 1) * steps
    boxes = tf.concat([first / last, final / last], axis=1)
    return tf.image.crop_and_resize(
        features, boxes, tf.cast(image_indices, tf.int32), [count, count]
    )


def map_groups(functions, groups, *arrays):
    """Row i of the result is that of `functions[groups[i]]`, of rows i of `arrays`.

    Each function gets its rows only.
    """
    rows, results = [], []
    for i, function in enumerate(functions):
        rows.append(tf.cast(tf.where(groups == i)[:, 0], tf.int32))
        results.append(function(*(tf.gather(array, rows[-1]) for array in arrays)))
    return tf.dynamic_stitch(rows, results)


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
