"""RandAugment of clips, and mixup and CutMix of pairs of samples, in TensorFlow.

What is drawn is a function of the seed and a sample's number, as all of a sample is.
The operations are those of `official.vision.ops.augment`, whose own classes draw from
stateful generators.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from official.vision.ops import augment

from trainers.video_classification.data import sampling
from trainers.video_classification.data.augmentation_configs import TWO_WAY

if TYPE_CHECKING:
    from trainers.video_classification.data.augmentation_configs import (
        MixupAndCutmixConfig,
        RandAugmentConfig,
    )


class RandAugment:
    """Applies operations to clips, the same to all frames of a clip.

    Args:
        config: The operations, and their strength.
        seed: Of what is drawn, together with the sample's number.
    """

    def __init__(self, config: RandAugmentConfig, seed: int):
        self.config, self.seed = config, seed
        self._variants = [
            (name, sign)
            for name in config.operations
            for sign in ((1, -1) if name in TWO_WAY else (1,))
        ]
        self._layer = tf.function(self._apply, autograph=False)  # traced once for all

    def __call__(self, clip: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Augments a uint8 (T, H, W, 3) clip of sample `number`."""
        shape = clip.shape
        chosen = _drawn(self._choose, number, tf.int32)
        chosen.set_shape((self.config.num_layers,))
        for variant in tf.unstack(chosen):
            clip = tf.ensure_shape(self._layer(clip, variant), shape)
        return clip

    def _choose(self, number: int) -> np.ndarray:
        """The variant of each layer; one past the last is none."""
        config, size = self.config, self.config.num_layers
        generator = sampling.augmentation_generator(self.seed, number)
        each = 1 / (len(config.operations) + 1)
        odds = [each / (1 + (name in TWO_WAY)) for name, _ in self._variants]
        chosen = generator.choice(len(odds) + 1, size, p=[*odds, each])
        if config.prob_to_apply is not None:
            chosen[generator.random(size) >= config.prob_to_apply] = len(odds)
        return chosen.astype(np.int32)

    def _apply(self, clip: tf.Tensor, variant: tf.Tensor) -> tf.Tensor:
        magnitude, shift = self.config.magnitude, self.config.translate_const
        branches = [
            functools.partial(apply_operation, name, clip, sign * magnitude, shift)
            for name, sign in self._variants
        ]
        return tf.switch_case(variant, branches, default=lambda: clip)


def apply_operation(
    name: str, clip: tf.Tensor, magnitude: float, translate_const: float
) -> tf.Tensor:
    """Applies one operation of `OPERATIONS` to a uint8 (T, H, W, 3) clip.

    Pixels from beyond the edges are reflected, as in the Model Garden.

    Args:
        name: The operation.
        clip: The clip.
        magnitude: -10 to 10. The sign is the direction, of those that have two.
        translate_const: Pixels of a translation at magnitude 10.
    """
    strength, size = magnitude / 10, abs(magnitude) / 10
    match name:
        case "AutoContrast" | "Equalize" | "Invert":
            return getattr(augment, name.lower())(clip)
        case "Posterize":
            return augment.posterize(clip, 8 - int(4 * size))
        case "Solarize":
            return augment.solarize(clip, min(256 - int(256 * size), 255))
        case "SolarizeAdd":
            return augment.solarize_add(clip, int(110 * size))
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            return getattr(augment, name.lower())(clip, 1 + 0.9 * strength)
        case "Rotate":
            return augment.rotate(clip, 30 * strength)
        case "ShearX":
            return augment.transform(clip, [1, 0.3 * strength, 0, 0, 1, 0, 0, 0])
        case "ShearY":
            return augment.transform(clip, [1, 0, 0, 0.3 * strength, 1, 0, 0, 0])
        case "TranslateX":
            return augment.translate(clip, [translate_const * strength, 0])
        case "TranslateY":
            return augment.translate(clip, [0, translate_const * strength])


class Mixing:
    """Mixes the clips and labels of two samples, each with the other one.

    Args:
        config: How much.
        seed: Of what is drawn, together with a sample's number.
        num_classes: Of labels that are numbers.
    """

    def __init__(self, config: MixupAndCutmixConfig, seed: int, num_classes: int):
        self.config, self.seed, self.num_classes = config, seed, num_classes

    def __call__(self, numbers: tf.Tensor, pair: dict) -> dict:
        """Mixes a batch of two samples, whose numbers in the run are `numbers`.

        Returns:
            The pair with `clip` in uint8 as before, and `label` float32 (2, K).
        """
        size = pair["clip"].shape[2:4]
        shares = [
            _drawn(lambda number: self._share(number, *size), number, tf.float32)
            for number in tf.unstack(tf.ensure_shape(numbers, (2,)))
        ]
        own = tf.stack([tf.ensure_shape(share, size) for share in shares])
        label = pair["label"]
        if label.dtype.is_integer:
            label = tf.one_hot(label, self.num_classes)
        of_pixels = own[:, None, :, :, None]
        clip = _mixed(tf.cast(pair["clip"], tf.float32), of_pixels)
        area = tf.reduce_mean(own, axis=(1, 2))
        return pair | {
            "clip": tf.cast(tf.round(clip), tf.uint8),
            "label": _mixed(label, area[:, None]),
            "weight": _mixed(pair["weight"], area),
        }

    def _share(self, number: int, height: int, width: int) -> np.ndarray:
        """(H, W): how much of a sample's pixels is its own."""
        config = self.config
        generator = sampling.mixing_generator(self.seed, number)
        is_mixed, is_cut = generator.random(2) < (config.prob, self._cutmix_probability)
        if not is_mixed:
            return np.ones((height, width), np.float32)
        alpha = config.cutmix_alpha if is_cut else config.mixup_alpha
        share = generator.beta(alpha, alpha)
        if is_cut:
            return _with_hole(generator, 1 - share, height, width)
        return np.full((height, width), share, np.float32)

    @property
    def _cutmix_probability(self) -> float:
        if not self.config.mixup_alpha:
            return 1.0
        return self.config.switch_prob if self.config.cutmix_alpha else 0.0


def _with_hole(
    generator: np.random.Generator, area: float, height: int, width: int
) -> np.ndarray:
    """Ones, but 0 in a rectangle of the frame's shape, cut off at its edges.

    Its centre is uniform over the frame; `area` is its fraction of the frame.
    """
    share = np.ones((height, width), np.float32)
    spans = []
    for side in (height, width):
        centre, half = generator.integers(side), int(side * area**0.5) // 2
        spans.append(slice(max(centre - half, 0), centre + half))
    share[tuple(spans)] = 0
    return share


def _mixed(values: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """own * values + (1 - own) * (values of the partner)."""
    return own * values + (1 - own) * tf.reverse(values, [0])


def _drawn(function, number: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    # Not stateful, as in `samples.py`.
    return tf.numpy_function(
        lambda number: function(int(number)), [number], dtype, stateful=False
    )
