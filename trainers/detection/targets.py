"""What the heads are trained to predict, as in torchvision.

Objects are rows of `boxes` for which `is_object` is true; the others fill up a batch.
Crowds are no objects: proposals on them count as background. Random choices are a
function of seeds that come with the examples.
"""

import tensorflow as tf

from keras_nonlocal.ops import boxes as box_ops

_POSITIVE, _BACKGROUND, _IGNORED = 1, 0, -1


def rpn_targets(anchors, boxes, is_object, seeds, config):
    """The anchors to train on, and what to predict for them.

    Args:
        anchors: `(A, 4)`.
        boxes: `(B, M, 4)`, M at least 1.
        is_object: `(B, M)` bool.
        seeds: `(B, 2)` int, of the choice.
        config: `SamplingConfig`.

    Returns:
        Dict of `index` `(B, n)`, numbers of anchors; `is_sampled`, false for those that
        fill up a row; `is_positive`; and `deltas` `(B, n, 4)`, 0 if not positive.
    """

    def of_image(image):
        boxes, is_object, seed = image
        thresholds = config.rpn_negative_iou, config.rpn_positive_iou
        objects, kinds = match(anchors, boxes, is_object, thresholds, all_best=True)
        size, fraction = config.rpn_batch_size, config.rpn_positive_fraction
        index, is_sampled, is_positive = sample(kinds, size, fraction, seed)
        chosen = tf.gather(anchors, index)
        matched = tf.gather(boxes, tf.gather(objects, index))
        weights = box_ops.RPN_WEIGHTS
        return {
            "index": index,
            "is_sampled": is_sampled,
            "is_positive": is_positive,
            "deltas": _deltas(matched, chosen, is_positive, weights),
        }

    types = {"index": tf.int32, "is_sampled": tf.bool, "is_positive": tf.bool}
    types["deltas"] = boxes.dtype
    return _map_images(of_image, (boxes, is_object, seeds), types)


def box_targets(proposals, num_valid, boxes, classes, is_object, seeds, config):
    """The proposals to train on, and what to predict for them.

    The objects' own boxes are added to the proposals.

    Args:
        proposals: `(B, n, 4)`.
        num_valid: `(B,)`: those after it fill up a row.
        boxes: `(B, M, 4)`, M at least 1.
        classes: `(B, M)` int32.
        is_object: `(B, M)` bool.
        seeds: `(B, 2)` int, of the choice.
        config: `SamplingConfig`.

    Returns:
        Dict of `boxes` `(B, k, 4)`; `objects` `(B, k)`, the row of each one's object;
        `labels`, 0 for background; `is_sampled`, false for those that fill up a row;
        `is_positive`, which come first in a row; and `deltas` `(B, k, 4)`, 0 if not
        positive.
    """

    def of_image(image):
        proposals, num_valid, boxes, classes, is_object, seed = image
        is_valid = tf.range(tf.shape(proposals)[0]) < num_valid
        proposals = tf.concat([proposals, boxes], axis=0)
        is_valid = tf.concat([is_valid, is_object], axis=0)
        thresholds = config.box_iou, config.box_iou
        objects, kinds = match(proposals, boxes, is_object, thresholds)
        kinds = tf.where(is_valid, kinds, _IGNORED)
        size, fraction = config.box_batch_size, config.box_positive_fraction
        index, is_sampled, is_positive = sample(kinds, size, fraction, seed)
        chosen, objects = tf.gather(proposals, index), tf.gather(objects, index)
        matched, weights = tf.gather(boxes, objects), box_ops.BOX_WEIGHTS
        return {
            "boxes": chosen,
            "objects": objects,
            "labels": tf.where(is_positive, tf.gather(classes, objects), 0),
            "is_sampled": is_sampled,
            "is_positive": is_positive,
            "deltas": _deltas(matched, chosen, is_positive, weights),
        }

    types = {"boxes": boxes.dtype, "objects": tf.int32, "labels": classes.dtype}
    types |= {"is_sampled": tf.bool, "is_positive": tf.bool, "deltas": boxes.dtype}
    num_valid = tf.cast(num_valid, tf.int32)
    images = proposals, num_valid, boxes, classes, is_object, seeds
    return _map_images(of_image, images, types)


def _map_images(function, images, types):
    """`function` of one image after another, without gradient."""
    found = tf.map_fn(function, images, fn_output_signature=types)
    return {name: tf.stop_gradient(value) for name, value in found.items()}


def match(candidates, boxes, is_object, thresholds, all_best=False):
    """The object that each candidate overlaps most, and whether it is that object's.

    Args:
        candidates: `(N, 4)`: anchors or proposals.
        boxes: `(M, 4)`, M at least 1.
        is_object: `(M,)` bool.
        thresholds: (low, high): an IoU below `low` is background, one of at least
            `high` is positive; those in between are ignored.
        all_best: Candidates with the greatest IoU of any object are positive, all of
            those that tie; they keep the object that they overlap most themselves.

    Returns:
        `(objects, kinds)`: `(N,)` int32 rows of `boxes`, and 1 (positive), 0
        (background) or -1 (ignored).
    """
    low, high = thresholds
    overlaps = tf.where(is_object[:, None], box_ops.iou(boxes, candidates), -1)
    best = tf.reduce_max(overlaps, axis=0)
    kinds = tf.where(best < high, _IGNORED, _POSITIVE)
    kinds = tf.where(best < low, _BACKGROUND, kinds)
    if all_best:
        greatest = tf.reduce_max(overlaps, axis=1, keepdims=True)
        is_best = (overlaps == greatest) & is_object[:, None]
        kinds = tf.where(tf.reduce_any(is_best, axis=0), _POSITIVE, kinds)
    return tf.argmax(overlaps, axis=0, output_type=tf.int32), kinds


def sample(kinds, count, positive_fraction, seed):
    """Draws candidates at random, of which at most a fraction is positive.

    Args:
        kinds: `(N,)` of `match`.
        count: Number of candidates to draw; fewer if there are not as many.
        positive_fraction: Largest fraction of `count`, for positive ones.
        seed: `(2,)` int: the same seed draws the same ones.

    Returns:
        `(index, is_sampled, is_positive)`: `(n,)` each, n = min(count, N), the positive
        ones first; where `is_sampled` is false there were no more.
    """
    size = tf.shape(kinds)[0]
    noise = tf.random.stateless_uniform([size], seed)
    most = tf.minimum(int(count * positive_fraction), size)
    order, index = tf.math.top_k(tf.where(kinds == _POSITIVE, noise, -1), most)
    is_drawn = tf.scatter_nd(index[:, None], tf.cast(order >= 0, tf.int32), [size])
    order = tf.where(kinds == _BACKGROUND, noise, -1)
    order = tf.where(is_drawn > 0, noise + 2, order)
    order, index = tf.math.top_k(order, tf.minimum(count, size))
    return index, order >= 0, order >= 2


def _deltas(boxes, references, is_positive, weights):
    is_positive = is_positive[:, None]
    unit = tf.constant([0, 0, 1, 1], boxes.dtype)  # of rows without an object
    boxes = tf.where(is_positive, boxes, unit)
    references = tf.where(is_positive, references, unit)
    return box_ops.encode(boxes, references, weights)


# === Masks and keypoints ===


def mask_targets(masks, boxes, objects, sizes, num_bins=28):
    """The part of each object's mask within a box, as soft masks.

    RoIAlign of the bitmap with ceil(side / bins) points along each side of a bin, as
    in torchvision: the mean over these points, interpolated bilinearly.

    Args:
        masks: `(B, M, H, W)` uint8, or of the dtype of `boxes`: 0 or 1.
        boxes: `(B, n, 4)`.
        objects: `(B, n)` int32: the row in `masks` of each box's object.
        sizes: `(B, 2)` int: (height, width) of each image without its padding.
        num_bins: m.

    Returns:
        `(B, n, m, m)`, of the dtype of `boxes`.
    """
    batch, count = tf.unstack(tf.shape(objects))
    images = tf.repeat(tf.range(batch), count)

    def of_box(row):
        image, instance, box, size = row
        first, last, down = _bin_weights(box[1], box[3], size[0], num_bins)
        left, right, across = _bin_weights(box[0], box[2], size[1], num_bins)
        part = tf.cast(masks[image, instance, first:last, left:right], box.dtype)
        return down @ tf.matmul(part, across, transpose_b=True)

    sizes = tf.cast(tf.gather(sizes, images), tf.int32)
    rows = images, tf.reshape(objects, [-1]), tf.reshape(boxes, (-1, 4)), sizes
    spec = tf.TensorSpec((num_bins, num_bins), boxes.dtype)
    targets = tf.map_fn(of_box, rows, fn_output_signature=spec)
    return tf.reshape(targets, (batch, count, num_bins, num_bins))


def _bin_weights(start, end, limit, num_bins):
    """What each bin of [start, end] takes from the cells `first` to `last` of an axis.

    Returns:
        `(first, last, weights)`; weights are `(bins, last - first)`.
    """
    dtype = start.dtype
    side = tf.maximum(end - start, 1)
    count = tf.cast(tf.math.ceil(side / num_bins), tf.int32)  # points of a bin
    points = tf.cast(tf.range(num_bins * count), dtype) + 0.5
    points = start + points * side / tf.cast(num_bins * count, dtype)
    most = tf.cast(limit, dtype)
    is_inside = (points >= -1) & (points <= most)
    points = tf.clip_by_value(points, 0, most - 1)
    first = tf.cast(points[0], tf.int32)
    last = tf.minimum(tf.cast(points[-1], tf.int32) + 2, limit)
    distances = tf.abs(points[:, None] - tf.cast(tf.range(first, last), dtype))
    weights = tf.maximum(1 - distances, 0) * tf.cast(is_inside, dtype)[:, None]
    weights = tf.reshape(weights, (num_bins, count, last - first))
    return first, last, tf.reduce_mean(weights, axis=1)


def keypoint_targets(keypoints, boxes, objects, num_bins=56):
    """The cell of each keypoint in the heatmap of a box.

    floor((x - x1) m / w); a point on the right or lower edge is in the last cell.

    Args:
        keypoints: `(B, M, K, 3)`: x, y and visibility; 0 is not labelled.
        boxes: `(B, n, 4)`.
        objects: `(B, n)` int32: the row in `keypoints` of each box's object.
        num_bins: m.

    Returns:
        `(cells, is_valid)`: `(B, n, K)`: row * m + column, and whether the point is
        labelled and within the box.
    """
    points = tf.gather(keypoints, objects, batch_dims=1)  # (B, n, K, 3)
    start, end = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    places = tf.floor((points[..., :2] - start) * (num_bins / (end - start)))
    places = tf.where(points[..., :2] == end, num_bins - 1.0, places)
    is_inside = tf.reduce_all((places >= 0) & (places < num_bins), axis=-1)
    is_valid = is_inside & (points[..., 2] > 0)
    places = tf.cast(tf.where(is_valid[..., None], places, 0), tf.int32)
    return places[..., 1] * num_bins + places[..., 0], is_valid
