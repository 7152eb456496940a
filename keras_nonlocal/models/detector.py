"""From images of any size to detections in their own pixels."""

import functools

import keras
import numpy as np
from keras import ops

from keras_nonlocal.ops import detection_kernels
from keras_nonlocal.validation import check_positive_int

MULTIPLE = 32  # of the sides of a batch: the stride of res5


class Detector(keras.Model):
    """A network that detects objects in images; see `MaskRCNN`.

    Subclasses have `min_size`, `max_size` and `rules`, a `call` from `(images, sizes)`
    to a dict of detections, and `to_image`.
    """

    def preprocess(self, image):
        """Resizes and normalises an image as the network expects it.

        The short side gets `min_size` pixels, but the long one at most `max_size`;
        bilinear, without smoothing, as in torchvision.

        Args:
            image: `(H, W, 3)`, RGB from 0 to 255 (uint8).

        Returns:
            `(h, w, 3)` float32.
        """
        image = ops.convert_to_tensor(image)
        size = ops.cast(ops.shape(image)[:2], "float64")
        scale = ops.minimum(
            self.min_size / ops.min(size), self.max_size / ops.max(size)
        )
        size = ops.maximum(ops.cast(ops.floor(scale * size), "int32"), 1)
        image = detection_kernels().resize(image, size)
        if self.rules.color == "BGR":
            image = image[..., ::-1]
        return (image - np.float32(self.rules.mean)) / np.float32(self.rules.std)

    def batch(self, images):
        """Puts normalised images into one batch, with zeros to the right and below.

        Args:
            images: List of `(h, w, 3)`.

        Returns:
            `(images, sizes)`: `(B, H, W, 3)`, H and W being multiples of 32, and
            `(B, 2)` int32, the (height, width) of each image.
        """
        sizes = np.array([image.shape[:2] for image in images], "int32")
        height, width = -(-sizes.max(axis=0) // MULTIPLE) * MULTIPLE
        padded = [
            ops.pad(image, ((0, height - h), (0, width - w), (0, 0)))
            for image, (h, w) in zip(images, sizes, strict=True)
        ]
        return ops.stack(padded), sizes

    def detect(self, images, batch_size=1):
        """Finds the objects in images of any sizes.

        Args:
            images: List of uint8 arrays `(H, W, 3)`, RGB.
            batch_size: Images that go through the network at once. Those of one batch
                are padded to a common size, which moves results by rounding errors,
                and in some sizes anchors by a few pixels (as in torchvision).

        Returns:
            A list of dicts of NumPy arrays, by falling score: `boxes` `(n, 4)` float32,
            x1, y1, x2, y2 in the pixels of the image; `labels` `(n,)` int32; `scores`
            `(n,)`; and of a `MaskRCNN` `masks` `(n, H, W)` bool, of a `KeypointRCNN`
            `keypoints` `(n, K, 3)`, x, y and visibility (always 1), and
            `keypoint_scores` `(n, K)`, logits.

        Raises:
            TypeError: An array that is not uint8.
            ValueError: No image; an array that is not `(H, W, 3)`, or is empty.
            NotImplementedError: On another backend than TensorFlow.
        """
        images = _checked(images)
        check_positive_int("batch_size", batch_size, owner="detect")
        found = []
        for i in range(0, len(images), batch_size):
            found += self._detect_batch(images[i : i + batch_size])
        return found

    def _detect_batch(self, images):
        preprocess, network = self._functions
        batch, sizes = self.batch([preprocess(image) for image in images])
        found = {
            key: ops.convert_to_numpy(x)
            for key, x in network(batch, ops.convert_to_tensor(sizes)).items()
        }
        results = []
        for i, count in enumerate(found.pop("num_detections")):
            one = {key: x[i, :count] for key, x in found.items()}
            results.append(self.to_image(one, sizes[i], images[i].shape[:2]))
        return results

    @functools.cached_property
    def _functions(self):
        """`preprocess` and `call`, each compiled once for all sizes."""
        kernels = detection_kernels()
        image, batch = ((None, None, 3), "uint8"), ((None, None, None, 3), "float32")
        return (
            kernels.compiled(self.preprocess, image),
            kernels.compiled(self.__call__, batch, ((None, 2), "int32")),
        )


def to_image_boxes(boxes, size, original_size):
    """Boxes `(n, 4)` of the resized image in the pixels of the image."""
    height, width = np.float32(original_size) / np.float32(size)
    return boxes * np.array([width, height, width, height])


def _checked(images):
    """The images as a list of arrays."""
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise ValueError(
            "detect takes a list of images, and this is one array of shape "
            f"{images.shape}: use detect([image])."
        )
    images = [np.asarray(image) for image in images]
    if not images:
        raise ValueError("detect needs at least one image. Received: an empty list.")
    for i, image in enumerate(images):
        if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise ValueError(
                f"detect takes images of shape (height, width, 3), RGB. images[{i}] "
                f"has shape {image.shape}."
            )
        if image.dtype != np.uint8:
            raise TypeError(
                f"detect takes uint8 images, from 0 to 255. images[{i}] is "
                f"{image.dtype}."
            )
    return images
