"""The networks by their names, as configs, metadata and commands give them."""

from keras_nonlocal.models.c2d import C2D
from keras_nonlocal.models.i3d import I3D
from keras_nonlocal.models.keypoint_rcnn import KeypointRCNN
from keras_nonlocal.models.mask_rcnn import MaskRCNN
from keras_nonlocal.validation import check_choice

ARCHITECTURES = {"c2d": C2D, "i3d": I3D}
DETECTORS = {"mask_rcnn": MaskRCNN, "keypoint_rcnn": KeypointRCNN}


def build(architecture, /, **options):
    """Builds a network by its name.

    Args:
        architecture: `"c2d"` or `"i3d"`.
        **options: The arguments of `C2D` or `I3D`. `temporal_kernel` belongs to I3D;
            None is the same as leaving it out, for both.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: Unknown `architecture`; a `temporal_kernel` for `"c2d"`; what
            `C2D` and `I3D` raise.
        TypeError: An option that the network does not have.

    Example:
    >>> build("i3d", depth=14, num_classes=10, width=8).output_shape
    (None, 10)
    """
    check_choice("architecture", architecture, ARCHITECTURES, owner="build")
    if options.get("temporal_kernel") is None:
        options.pop("temporal_kernel", None)
    elif architecture == "c2d":
        raise ValueError(
            "C2D has no temporal kernels: `temporal_kernel` is an argument of I3D. "
            "Leave it out, or build 'i3d'. Received: "
            f"temporal_kernel={options['temporal_kernel']!r}."
        )
    return ARCHITECTURES[architecture](**options)
