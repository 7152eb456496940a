"""From scores and deltas to boxes: of proposals, and of the objects in them."""

from keras import ops

from keras_nonlocal.ops import boxes as box_ops
from keras_nonlocal.ops import detection_kernels, non_max_suppression

PROPOSAL_OVERLAP = 0.7  # of proposals of one level that overlap by more, one stays
LEAST_PROPOSAL = 1e-3  # side in pixels; smaller ones are dropped
LEAST_BOX = 1e-2
LOWEST = -3.4e38  # below every logit


def split_levels(logits, deltas, anchors, counts):
    """`(logits, deltas, anchors)` of each level; see `RCNN.propose`."""
    start, levels = 0, []
    for count in counts:
        own = slice(start, start + count)
        levels.append((logits[:, own], deltas[:, own], anchors[own]))
        start += count
    return levels


def propose(levels, sizes, count):
    """The best `count` boxes of each image among the best `count` of each level.

    Args:
        levels: Of each level logits `(B, A)`, deltas `(B, A, 4)`, anchors `(A, 4)`.
        sizes: `(B, 2)`: (height, width) of each image.
        count: Int.

    Returns:
        `(boxes, num_valid)`, without gradients: see `RCNN.propose`.
    """
    best = [_best_of_level(*level, sizes, count) for level in levels]
    boxes, scores = (ops.stack(parts, axis=2) for parts in zip(*best, strict=True))
    boxes, _, _, valid = non_max_suppression(
        boxes, scores, PROPOSAL_OVERLAP, LOWEST, count
    )
    return ops.stop_gradient(boxes), valid


def _best_of_level(logits, deltas, anchors, sizes, count):
    """`count` boxes and logits of one level; those too small have -inf."""
    scores, index = ops.top_k(logits, ops.minimum(count, ops.shape(logits)[1]))
    anchors = ops.take(anchors, index, axis=0)
    deltas = detection_kernels().take_rows(deltas, index)
    boxes = box_ops.clip(box_ops.decode(deltas, anchors, box_ops.RPN_WEIGHTS), sizes)
    is_valid = box_ops.has_sides(boxes, LEAST_PROPOSAL)
    scores = ops.where(is_valid, scores, float("-inf"))
    return pad_boxes(boxes, count), pad_boxes(scores, count, float("-inf"))


def detect(
    class_logits,
    deltas,
    boxes,
    num_valid,
    sizes,
    *,
    nms_threshold,
    score_threshold,
    count,
):
    """The objects in proposals; see `RCNN.postprocess`."""
    scores = ops.softmax(class_logits)[..., 1:]  # without the background
    is_valid = ops.arange(ops.shape(boxes)[1]) < num_valid[:, None]
    boxes = box_ops.clip(box_ops.decode(deltas[:, :, 1:], boxes[:, :, None]), sizes)
    is_valid = is_valid[..., None] & box_ops.has_sides(boxes, LEAST_BOX)
    scores = ops.where(is_valid, scores, 0.0)
    boxes, scores, classes, valid = non_max_suppression(
        boxes, scores, nms_threshold, score_threshold, count
    )
    labels = ops.where(ops.arange(count) < valid[:, None], classes + 1, 0)
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    return found | {"num_detections": valid}


def pad_boxes(x, count, filler=0):
    """`(B, n, ...)` to `(B, count, ...)`."""
    widths = ((0, 0), (0, count - ops.shape(x)[1]), *((0, 0),) * (len(x.shape) - 2))
    return ops.pad(x, widths, constant_values=filler)
