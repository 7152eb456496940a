"""The graph of an exported detector: from raw images to detections.

It uses only TensorFlow, for preprocessing too, so that the SavedModel runs without
Keras and this repository.
"""

import numpy as np
import tensorflow as tf

from trainers.detection.detections import detect

MULTIPLE = 32  # of the sides of a batch: the stride of res5
_NAMES = {
    "num_detections": "num_detections",
    "detection_boxes": "boxes",
    "detection_scores": "scores",
    "detection_classes": "labels",
    "detection_masks": "masks",
    "detection_keypoints": "keypoints",
    "detection_keypoint_scores": "keypoint_scores",
}
_JPEG_START = b"\xff\xd8\xff"


class ServingModule(tf.Module):
    """The network with two signatures, for raw and for encoded images.

    Both return, for up to 100 objects of an image by falling score:

    - `num_detections`: int32 `(B,)`; after these, rows are zero.
    - `detection_boxes`: `(B, 100, 4)`, x1, y1, x2, y2 in pixels of the image.
    - `detection_scores`: `(B, 100)`.
    - `detection_classes`: int32 `(B, 100)`, lines of `classes.txt`, from 0.
    - `detection_masks`: `(B, 100, 28, 28)`, probabilities within the boxes; or
      `detection_keypoints`: `(B, 100, K, 3)`, x, y and visibility, and
      `detection_keypoint_scores`: `(B, 100, K)`.

    A request above a limit of `ExportConfig` is an InvalidArgumentError.

    Args:
        model: `MaskRCNN` or `KeypointRCNN`.
        limits: `ExportConfig`.
    """

    def __init__(self, model, limits):
        super().__init__(name="serving")
        self._model = _Untracked(model)
        self._limits = limits
        # Tracked one by one: through the Keras model, the session loader of
        # TF Serving does not initialise all of them.
        self.weights = [variable.value for variable in model.variables]

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
    )
    def images(self, images):
        """Signature `serving_default`: RGB images of one size."""
        count, height, width = tf.unstack(tf.shape(images)[:3])
        size = tf.stack([height, width])
        sizes = tf.tile(size[None], (count, 1))
        with tf.control_dependencies([self._checked(sizes)]):
            new = self._scaled(size)
        prepared = tf.image.resize(tf.cast(images, tf.float32), new)
        prepared = self._padded(self._normalized(prepared), _rounded_up(new))
        return self._detect(prepared, tf.tile(new[None], (count, 1)), sizes)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "jpeg")])
    def jpeg(self, jpeg):
        """Signature `jpeg`: JPEG images of any sizes."""
        # Each input of a loop enters it by itself: all of them have to wait for checks.
        with tf.control_dependencies([self._checked_bytes(jpeg)]):
            jpeg = tf.identity(jpeg)
        sizes = tf.map_fn(_size_of_jpeg, jpeg, fn_output_signature=_SIZE)
        with tf.control_dependencies([self._checked(sizes)]):
            jpeg, sizes = tf.identity(jpeg), tf.identity(sizes)
        new = tf.map_fn(self._scaled, sizes, fn_output_signature=_SIZE)
        canvas = _rounded_up(tf.reduce_max(new, axis=0))

        def prepare(row):
            image, size = row
            image = tf.cast(tf.io.decode_jpeg(image, channels=3), tf.float32)
            prepared = self._normalized(tf.image.resize(image, size))
            return self._padded(prepared, canvas)

        spec = tf.TensorSpec((None, None, 3), tf.float32)
        prepared = tf.map_fn(prepare, (jpeg, new), fn_output_signature=spec)
        return self._detect(prepared, new, sizes)

    def _detect(self, images, sizes, original_sizes):
        images = tf.ensure_shape(images, (None, None, None, 3))
        found = detect(self._model.value, images, sizes, original_sizes)
        return {ours: found[name] for ours, name in _NAMES.items() if name in found}

    # === Preprocessing ===

    def _scaled(self, size):
        """(height, width) in which the network sees an image, as in torchvision."""
        model, exact = self._model.value, tf.cast(size, tf.float64)
        scale = tf.minimum(
            model.min_size / tf.reduce_min(exact), model.max_size / tf.reduce_max(exact)
        )
        return tf.maximum(tf.cast(tf.floor(scale * exact), tf.int32), 1)

    def _normalized(self, images):
        rules = self._model.value.rules
        if rules.color == "BGR":
            images = images[..., ::-1]
        return (images - np.float32(rules.mean)) / np.float32(rules.std)

    def _padded(self, images, canvas):
        below, right = tf.unstack(canvas - tf.shape(images)[-3:-1])
        leading = [(0, 0)] * (images.shape.rank - 3)
        return tf.pad(images, [*leading, (0, below), (0, right), (0, 0)])

    # === Limits ===

    def _checked(self, sizes):
        """Checks of the sizes `(B, 2)` of the images of a request."""
        limits, pixels = self._limits, tf.cast(tf.reduce_prod(sizes, axis=1), tf.int64)
        count = tf.size(pixels, tf.int64)
        canvas = float(self._model.value.min_size) * self._model.value.max_size
        total = tf.cast(count, tf.float64) * canvas
        return tf.group(
            _check(count >= 1, "The request has no images: send at least one."),
            _check(
                tf.reduce_all((pixels >= 1) & (pixels <= limits.max_image_pixels)),
                "An image of the request has {} pixels; expected 1 to "
                f"{limits.max_image_pixels} (task.export.max_image_pixels).",
                tf.reduce_max(pixels),
            ),
            _check(
                total <= limits.max_request_pixels,
                "The images of the request have up to {} pixels as the network sees "
                f"them; expected at most {limits.max_request_pixels} "
                "(task.export.max_request_pixels).",
                tf.cast(total, tf.int64),
            ),
        )

    def _checked_bytes(self, jpeg):
        limits = self._limits
        length = tf.reduce_max(tf.concat([tf.strings.length(jpeg), [0]], axis=0))
        starts = tf.strings.substr(jpeg, 0, len(_JPEG_START))
        return tf.group(
            _check(
                length <= limits.max_image_bytes,
                "An image of the request has {} bytes; expected at most "
                f"{limits.max_image_bytes} (task.export.max_image_bytes).",
                length,
            ),
            _check(
                tf.reduce_all(starts == _JPEG_START),
                "An image of the request is not a JPEG: encode all images as JPEG.",
            ),
        )


_SIZE = tf.TensorSpec((2,), tf.int32)


def _size_of_jpeg(image):
    return tf.io.extract_jpeg_shape(image, tf.int32)[:2]


def _rounded_up(size):
    return -(-size // MULTIPLE) * MULTIPLE


def _check(fits, message: str, *values):
    return tf.debugging.Assert(fits, [tf.strings.format(message, values)])


class _Untracked:
    """Keeps a model out of the variables that `tf.Module` finds by itself."""

    def __init__(self, value):
        self.value = value
