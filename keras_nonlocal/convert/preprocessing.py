"""The preprocessing of clips that a network expects."""

import dataclasses
import math

from keras_nonlocal.models import CONVENTIONS

# Frames of a clip, and steps from one to the next in the video.
CLIPS = {"8x8": (8, 8), "32x2": (32, 2)}
SIDE = 224


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How clips are normalised: (pixels 0-255 - mean) / std, for each channel.

    Attributes:
        color: Order of the channels, `"RGB"` or `"BGR"`.
        mean: Three numbers.
        std: Three numbers.

    Raises:
        ValueError: Other values, as a damaged file may hold them.
    """

    color: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self):
        if self.color not in ("RGB", "BGR"):
            raise ValueError(f"color={self.color!r}")
        for name in ("mean", "std"):
            values, least = getattr(self, name), 0 if name == "std" else -math.inf
            if not isinstance(values, list | tuple) or len(values) != 3:
                raise ValueError(f"{name}={values!r}")
            for x in values:
                if not isinstance(x, int | float) or not least < x < math.inf:
                    raise ValueError(f"{name}={values!r}")
            object.__setattr__(self, name, tuple(values))

    @classmethod
    def of_convention(cls, name):
        """The pixels that video networks of a convention take."""
        rules = CONVENTIONS[name]
        return cls("RGB", rules.mean, rules.std)

    def is_close(self, other):
        """Whether a network for one sees the other as it should, to 2 of 255."""
        pairs = zip(self.mean + self.std, other.mean + other.std, strict=True)
        return self.color == other.color and all(abs(a - b) < 2 for a, b in pairs)

    def describe(self):
        """In words.

        Example:
        >>> Pixels("BGR", (103.0, 116.0, 124.0), (1, 1, 1)).describe()
        'BGR (0-255) minus (103.0, 116.0, 124.0), divided by (1, 1, 1)'
        """
        return f"{self.color} (0-255) minus {self.mean}, divided by {self.std}"


IMAGENET = Pixels("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def input_shape_of(stem, clip=None):
    """`(frames, height, width, channels)`; `clip` is what was requested, or None."""
    return (*(clip or (CLIPS[stem][0], SIDE, SIDE)), 3)


def describe_clips(stem, input_shape, pixels):
    """How to cut and normalise a clip, as the trainers' `preprocessing.json`."""
    frames, height, width, _ = input_shape
    return {
        "num_frames": frames,
        "temporal_stride": CLIPS[stem][1],
        "short_side": round(min(height, width) * 256 / SIDE),
        "crop_size": height if height == width else [height, width],
        "activation": "softmax",
        "color": pixels.color,
        "mean": list(pixels.mean),
        "std": list(pixels.std),
    }
