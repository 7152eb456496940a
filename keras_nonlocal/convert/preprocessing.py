"""What a network expects of its clips, and what its answers mean."""

from keras_nonlocal.models.conventions import CONVENTIONS

# Frames of a clip, and steps from one to the next in the video.
CLIPS = {"8x8": (8, 8), "32x2": (32, 2)}
SIDE = 224

_IMAGENET = {
    "color": "RGB",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
}
# Image networks keep what they were trained with, under any convention.
_IMAGE_NETWORKS = {
    "torchvision": _IMAGENET,
    "keras_hub": _IMAGENET,
    "keras_applications": {
        "color": "BGR",
        "mean": [103.939, 116.779, 123.68],
        "std": [1.0, 1.0, 1.0],
    },
}


def input_shape_of(stem, clip=None):
    """`(frames, height, width, channels)`; `clip` is what was asked for, or None.

    Example:
    >>> input_shape_of("32x2")
    (32, 224, 224, 3)
    """
    return (*(clip or (CLIPS[stem][0], SIDE, SIDE)), 3)


def pixels_of(source, convention):
    """What a source's networks take: `"color"`, `"mean"` and `"std"`, for JSON.

    Args:
        source: Name of the source.
        convention: Key of `CONVENTIONS`, of a network for video.

    Example:
    >>> pixels_of("keras_applications", "paper")["color"]
    'BGR'
    """
    rules = CONVENTIONS[convention]
    usual = {"color": "RGB", "mean": list(rules.mean), "std": list(rules.std)}
    return _IMAGE_NETWORKS.get(source, usual)


def describe_clips(source, stem, convention, input_shape, pixels=()):
    """How to cut and normalise a clip: (pixels 0-255 - mean) / std, for JSON.

    The keys are those of the trainers' `preprocessing.json`.

    Args:
        source: Name of the source.
        stem: `"8x8"` or `"32x2"`.
        convention: Key of `CONVENTIONS`.
        input_shape: `(frames, height, width, channels)`.
        pixels: `"color"`, `"mean"` and `"std"`, where they are known.

    Example:
    >>> describe_clips("pyslowfast", "8x8", "pyslowfast", (8, 224, 224, 3))["mean"]
    [114.75, 114.75, 114.75]
    """
    frames, height, width, _ = input_shape
    return {
        "num_frames": frames,
        "temporal_stride": CLIPS[stem][1],
        "short_side": round(min(height, width) * 256 / SIDE),
        "crop_size": height if height == width else [height, width],
        "activation": "softmax",
        **pixels_of(source, convention),
        **dict(pixels),
    }
