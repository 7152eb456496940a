"""The losses of Mask R-CNN and Keypoint R-CNN: sums over the examples of a batch.

Each function returns `(sums, counts)`, `(B,)` each: the sum of an image's terms, and
how many terms divide the sum of all images. The loss of a batch is the sum of `sums`
divided by that of `counts`, as in torchvision.
"""

import tensorflow as tf


def objectness_losses(logits, targets):
    """Binary cross-entropy of the sampled anchors.

    Args:
        logits: `(B, A)`.
        targets: Of `targets.rpn_targets`.
    """
    logits = tf.gather(logits, targets["index"], batch_dims=1)
    labels = tf.cast(targets["is_positive"], logits.dtype)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return _sums(losses, targets["is_sampled"])


def anchor_losses(deltas, targets, beta=1 / 9):
    """Smooth L1 of the positive anchors' deltas, divided by the sampled anchors.

    Args:
        deltas: `(B, A, 4)`.
        targets: Of `targets.rpn_targets`.
        beta: Of `smooth_l1`.
    """
    deltas = tf.gather(deltas, targets["index"], batch_dims=1)
    return _delta_losses(deltas, targets, beta)


def class_losses(logits, targets):
    """Softmax cross-entropy of the sampled boxes.

    Args:
        logits: `(B, k, C)`.
        targets: Of `targets.box_targets`.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets["labels"], logits)
    return _sums(losses, targets["is_sampled"])


def box_losses(deltas, targets, beta=1 / 9):
    """Smooth L1 of the positive boxes' deltas, divided by the sampled boxes.

    Args:
        deltas: `(B, k, C, 4)`: those of an object's own class count.
        targets: Of `targets.box_targets`.
        beta: Of `smooth_l1`.
    """
    deltas = tf.gather(deltas, targets["labels"], axis=2, batch_dims=2)
    return _delta_losses(deltas, targets, beta)


def _delta_losses(deltas, targets, beta):
    losses = tf.reduce_sum(smooth_l1(deltas - targets["deltas"], beta), axis=-1)
    sums, _ = _sums(losses, targets["is_positive"])
    return sums, _counts(targets["is_sampled"], losses.dtype)


def mask_losses(logits, labels, masks, is_positive):
    """Binary cross-entropy of the pixels of objects' masks, a mean over each.

    Args:
        logits: `(B, n, m, m, C)`: those of an object's own class count.
        labels: `(B, n)` int32.
        masks: `(B, n, m, m)`: 0 to 1, of `targets.mask_targets`.
        is_positive: `(B, n)` bool: the boxes that count.
    """
    own = tf.gather(logits, labels, axis=4, batch_dims=2)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(masks, own)
    return _sums(tf.reduce_mean(losses, axis=(2, 3)), is_positive)


def keypoint_losses(logits, cells, is_valid):
    """Softmax cross-entropy over the cells of keypoints' heatmaps.

    Args:
        logits: `(B, n, m, m, K)`.
        cells: `(B, n, K)` int32, of `targets.keypoint_targets`.
        is_valid: `(B, n, K)` bool: the keypoints that count.
    """
    batch, count, size = tf.unstack(tf.shape(logits)[:3])
    maps = tf.reshape(logits, (batch, count, size**2, logits.shape[-1]))
    maps = tf.transpose(maps, (0, 1, 3, 2))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(cells, maps)
    losses = tf.where(is_valid, losses, 0)
    counts = tf.reduce_sum(_counts(is_valid, losses.dtype), axis=1)
    return tf.reduce_sum(losses, axis=(1, 2)), counts


def smooth_l1(x, beta):
    """x^2 / (2 beta) where |x| < beta, else |x| - beta / 2.

    Example:
    >>> smooth_l1(tf.constant([0.5, -3.0]), beta=1.0).numpy().tolist()
    [0.125, 2.5]
    """
    size = tf.abs(x)
    return tf.where(size < beta, 0.5 * x**2 / beta, size - 0.5 * beta)


def _sums(losses, is_counted):
    """`(sums, counts)` over the second axis of `(B, n)`."""
    sums = tf.reduce_sum(tf.where(is_counted, losses, 0), axis=1)
    return sums, _counts(is_counted, losses.dtype)


def _counts(is_counted, dtype):
    return tf.reduce_sum(tf.cast(is_counted, dtype), axis=1)
