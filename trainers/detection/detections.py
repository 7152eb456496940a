"""Detections in the pixels of the images as they are stored."""

import tensorflow as tf


def detect(model, images, sizes, original_sizes):
    """Detects objects in a batch.

    Args:
        model: `MaskRCNN` or `KeypointRCNN`.
        images: `(B, H, W, 3)`, normalised and padded.
        sizes: `(B, 2)`: (height, width) of each image without padding.
        original_sizes: `(B, 2)`: the same of the images as they are stored.

    Returns:
        What the network returns, with the boxes and keypoints in pixels of the images
        as they are stored; masks stay 28x28 probabilities within the boxes.
    """
    found = model(images, sizes=sizes, training=False)
    sizes, original_sizes = (tf.cast(x, tf.float32) for x in (sizes, original_sizes))
    down, right = tf.unstack(original_sizes / sizes, axis=1)
    scale = tf.stack([right, down, right, down], axis=1)
    found = found | {"boxes": found["boxes"] * scale[:, None]}
    if "keypoints" in found:
        factors = tf.stack([right, down, tf.ones_like(right)], axis=1)
        found["keypoints"] = found["keypoints"] * factors[:, None, None]
    return found
