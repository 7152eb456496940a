"""Cross-entropy of each clip, in float32, and the weights of classes in it."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainers.core.errors import UserError, did_you_mean


def class_weights(
    setting: str | Mapping[str, float] | Sequence[float],
    class_names: Sequence[str],
    num_videos: Sequence[int],
) -> np.ndarray:
    """The weight w_k of each class in the loss, float32 `(K,)`.

    `balanced` is w_k = N / (K n_k), with n_k the number of training videos of class
    k, N their sum and K the number of classes that have videos: the mean weight of
    all labels is 1. Classes without videos weigh 1.

    Args:
        setting: `task.losses.class_weights`.
        class_names: In label order.
        num_videos: n_k, in label order.

    Raises:
        UserError: An unknown class, another number of weights than of classes, or
            weights that are all 0.

    Example:
    >>> class_weights("balanced", ["run", "sit"], [30, 10])
    array([0.6666667, 2.       ], dtype=float32)
    """
    key = "task.losses.class_weights"
    num_videos = np.array(num_videos)
    if setting == "balanced":
        balanced = num_videos.sum() / np.maximum(num_videos, 1) / np.sum(num_videos > 0)
        return np.where(num_videos, balanced, 1).astype(np.float32)
    if isinstance(setting, Mapping):
        setting = {str(name): weight for name, weight in setting.items()}
        for name in setting:
            if name not in class_names:
                hint = did_you_mean(name, class_names)
                raise UserError(f"{key}: there is no class {name!r}.{hint}")
        setting = [setting.get(name, 1.0) for name in class_names]
    if len(setting) != len(class_names):
        raise UserError(
            f"{key} has {len(setting)} weights, but there are {len(class_names)} "
            "classes: give one for each, or name the classes: {run: 2.0}."
        )
    if not any(setting):
        raise UserError(
            f"{key} are all 0: the loss would be 0, and nothing would be learned. Give "
            "at least one class a positive weight."
        )
    return np.array(setting, np.float32)


def softmax_losses(labels, logits, label_smoothing: float = 0.0, weights=None):
    """-w_y sum_k q_k log p_k with q = (1 - s) * one-hot + s / K.

    Of probabilities of labels, as of mixed clips, it is the mean over the labels.

    Args:
        labels: y, int32 `(batch,)`, or probabilities of it, float32 `(batch, K)`.
        logits: `(batch, K)`.
        label_smoothing: s.
        weights: w, float32 `(K,)`; None: 1.

    Returns:
        float32 `(batch,)`.
    """
    labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)
    if not labels.dtype.is_integer:
        return _mean_over_labels(labels, logits, label_smoothing, weights)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    if weights is not None:
        losses *= tf.gather(weights, labels)
    return losses


def _mean_over_labels(probabilities, logits, label_smoothing, weights):
    by_label = -tf.nn.log_softmax(logits)  # (batch, K): the loss if y were k
    uniform = tf.reduce_mean(by_label, axis=-1, keepdims=True)
    by_label = (1 - label_smoothing) * by_label + label_smoothing * uniform
    if weights is not None:
        by_label *= weights
    return tf.reduce_sum(probabilities * by_label, axis=-1)


def sigmoid_losses(labels, logits, label_smoothing: float = 0.0, weights=None):
    """Mean over classes of w_k times the binary cross-entropy; q = (1 - s) * y + s / 2.

    Args:
        labels: y, float32 `(batch, K)`, 0 to 1.
        logits: `(batch, K)`.
        label_smoothing: s.
        weights: w, float32 `(K,)`; None: 1.

    Returns:
        float32 `(batch,)`.
    """
    logits = tf.cast(logits, tf.float32)
    labels = (1 - label_smoothing) * labels + label_smoothing / 2
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    if weights is not None:
        losses *= weights
    return tf.reduce_mean(losses, axis=-1)
