"""Non-maximum suppression, class by class."""

from keras_nonlocal.ops.backends import detection_kernels


def non_max_suppression(boxes, scores, iou_threshold, least_score, count):
    """The best boxes of each image, without those that overlap a better one.

    Boxes of one class are suppressed by each other, not by those of others.

    Args:
        boxes: `(B, N, C, 4)` or, for boxes that all classes share, `(B, N, 1, 4)`.
        scores: `(B, N, C)`.
        iou_threshold: Boxes that overlap a better one by more are dropped.
        least_score: Boxes without a higher score are dropped.
        count: Boxes to return.

    Returns:
        `(boxes, scores, classes, num_valid)`: `(B, count, 4)`, `(B, count)`,
        `(B, count)` int32, by falling score, and `(B,)` int32, after which the rest
        is zero.

    Raises:
        NotImplementedError: On another backend than TensorFlow.

    Example:
    >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]], "float32")
    >>> scores = np.array([0.8, 0.9, 0.7], "float32")
    >>> _, scores, _, valid = non_max_suppression(
    ...     boxes[None, :, None], scores[None, :, None], 0.5, 0.0, count=3
    ... )
    >>> scores.numpy().round(1), valid.numpy()
    (array([[0.9, 0.7, 0. ]], dtype=float32), array([2], dtype=int32))
    """
    kernels = detection_kernels()
    return kernels.non_max_suppression(boxes, scores, iou_threshold, least_score, count)
