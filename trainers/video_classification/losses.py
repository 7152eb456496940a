"""Cross-entropy of each clip, in float32."""

import tensorflow as tf


def softmax_losses(labels, logits, label_smoothing: float = 0.0):
    """-sum_k q_k log p_k with q = (1 - s) * one-hot + s / K.

    Args:
        labels: int32 `(batch,)`.
        logits: `(batch, K)`.
        label_smoothing: s.

    Returns:
        float32 `(batch,)`.
    """
    logits = tf.cast(logits, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return losses


def sigmoid_losses(labels, logits, label_smoothing: float = 0.0):
    """Mean over classes of the binary cross-entropy; q = (1 - s) * y + s / 2.

    Args:
        labels: float32 `(batch, K)` of 0 and 1.
        logits: `(batch, K)`.
        label_smoothing: s.

    Returns:
        float32 `(batch,)`.
    """
    logits = tf.cast(logits, tf.float32)
    labels = (1 - label_smoothing) * labels + label_smoothing / 2
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses, axis=-1)
