"""I3D: the inflated ResNet (paper, Sec. 3.3)."""

from keras_nonlocal.models.inflation import i3d_inflation
from keras_nonlocal.models.video_resnet import video_resnet


def I3D(
    depth=50,
    num_classes=400,
    input_shape=(8, 224, 224, 3),
    stem="8x8",
    temporal_kernel="3x1x1",
    non_local=None,
    non_local_options=None,
    convention="video_nonlocal_net",
    width=64,
    dropout_rate=0.5,
    include_top=True,
    stride_in_1x1=False,
    name=None,
):
    """C2D with convolutions that extend over time, with non-local blocks.

    conv1 is 5x7x7, and about every second residual block has a kernel of 3 in
    time: all of res2, the even ones of res3 and res4, the odd ones of res5.

    Args:
        temporal_kernel: `"3x1x1"` inflates the first 1x1 of a residual block,
            `"3x3x3"` its 3x3.
        depth, num_classes, input_shape, stem: As in `C2D`.
        non_local, non_local_options, convention, width: As in `C2D`.
        dropout_rate, include_top, stride_in_1x1, name: As in `C2D`.

    Returns:
        `keras.Model`: clips `(B, T, H, W, C)` to logits `(B, num_classes)`.

    Raises:
        ValueError: An argument outside its choices; a clip too small for the
            network; a `non_local` that inserts no block.

    Example:
    >>> model = I3D(26, 10, (8, 64, 64, 3), width=16, non_local={"res3": [0]})
    >>> tuple(model.get_layer("conv1").kernel.shape)
    (5, 7, 7, 3, 16)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """
    options = locals()
    inflation = i3d_inflation(options.pop("temporal_kernel"))
    return video_resnet("i3d", inflation, **options)
