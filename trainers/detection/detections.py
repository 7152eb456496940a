"""Detections in the pixels of the images as they are stored."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_nonlocal.ops import paste_masks

_FOUND = {"boxes", "labels", "scores", "masks", "keypoints"}


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


def by_image(outputs) -> Iterator[tuple[int, dict]]:
    """Yields the id and the detections of each image of a batch.

    Args:
        outputs: NumPy arrays of `detect`, with `image_id`, `weight` and
            `original_sizes`; rows of weight 0 are left out.

    Yields:
        `(image_id, found)`: `found` as `model.detect` gives it: `boxes`, `labels`,
        `scores`, and `masks` `(n, height, width)` bool or `keypoints`.
    """
    for i in np.flatnonzero(outputs["weight"] > 0):
        count = outputs["num_detections"][i]
        found = {name: outputs[name][i, :count] for name in _FOUND & outputs.keys()}
        if "masks" in found:
            size = tuple(map(int, outputs["original_sizes"][i]))
            found["masks"] = paste_masks(found["masks"], found["boxes"], size)
        yield int(outputs["image_id"][i]), found
