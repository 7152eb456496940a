"""The training losses of a network on a batch of annotated images."""

import tensorflow as tf

from trainers.detection import losses, targets

_RPN, _BOXES = range(2)  # purposes of a random choice


def compute_losses(model, batch, config, seed: int, training: bool = True) -> dict:
    """Sums of the losses of each image, and what divides them; see `losses.py`.

    Args:
        model: `MaskRCNN` or `KeypointRCNN`.
        batch: Of `make_dataset`, for training. `sample` is the number of each image in
            the run: random choices are a function of it and `seed`.
        config: `SamplingConfig`.
        seed: Of random choices.
        training: Whether batch normalisation uses the batch's own statistics.

    Returns:
        Name -> `(sums, counts)`, float32 `(B,)` each.
    """
    images, boxes, classes = batch["images"], batch["boxes"], batch["classes"]
    is_object = (classes > 0) & ~batch["is_crowd"]
    numbers = tf.cast(batch["sample"], tf.int64)
    seeds = tf.stack([tf.fill(tf.shape(numbers), tf.cast(seed, tf.int64)), numbers], 1)
    maps = model.extract_features(images, training=training)
    # Proposals and details share gradients, to which that of boxes is added at the end.
    features = [tf.identity(x) for x in maps]
    logits, deltas = model.predict_rpn(features, training=training)
    shape = tf.unstack(tf.shape(images)[1:3])
    anchors, _ = model.anchors(shape)
    own_seeds = _for(_RPN, seeds)
    rpn = targets.rpn_targets(anchors, boxes, is_object, own_seeds, config)
    proposals, num_valid = model.propose(
        logits, deltas, batch["sizes"], shape, training=True
    )
    objects = boxes, classes, is_object
    own_seeds = _for(_BOXES, seeds)
    rois = targets.box_targets(proposals, num_valid, *objects, own_seeds, config)
    details = _details(model, features, batch, _positives(rois), training)
    with tf.control_dependencies([sums for sums, _ in details.values()]):
        chosen = tf.identity(rois["boxes"])  # later: two heads at once need more memory
    class_logits, box_deltas = model.predict_boxes(maps, chosen, training=training)
    return {
        "objectness_loss": losses.objectness_losses(logits, rpn),
        "rpn_box_loss": losses.anchor_losses(deltas, rpn, model.rules.rpn_beta),
        "class_loss": losses.class_losses(class_logits, rois),
        "box_loss": losses.box_losses(box_deltas, rois, model.rules.box_beta),
        **details,
    }


def _for(purpose: int, seeds):
    """Seeds of one kind of choice."""
    return seeds * [1, 2] + [0, purpose]


def _positives(rois):
    """The positive boxes, and as few others as a rectangular batch needs.

    At least one of each image: networks of no region at all have no gradient.
    """
    counts = tf.reduce_sum(tf.cast(rois["is_positive"], tf.int32), axis=1)
    most = tf.maximum(tf.reduce_max(counts), 1)
    return {name: value[:, :most] for name, value in rois.items()}


def _details(model, features, batch, rois, training):
    """The losses of masks or keypoints, whichever the batch has."""
    boxes, objects, is_positive = rois["boxes"], rois["objects"], rois["is_positive"]
    if "masks" in batch:
        logits = model.predict_masks(features, boxes, training=training)
        masks = targets.mask_targets(batch["masks"], boxes, objects, batch["sizes"])
        found = losses.mask_losses(logits, rois["labels"], masks, is_positive)
        return {"mask_loss": found}
    logits = model.predict_keypoints(features, boxes, training=training)
    cells, is_valid = targets.keypoint_targets(batch["keypoints"], boxes, objects)
    is_valid &= is_positive[..., None]
    return {"keypoint_loss": losses.keypoint_losses(logits, cells, is_valid)}
