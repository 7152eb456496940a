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
    name=None,
    stride_in_1x1=False,
):
    """C2D with convolutions that reach over time, with non-local blocks.

    conv1 is 5x7x7, and about every second residual block has a kernel of 3 in
    time: all of res2, the even ones of res3 and res4, the odd ones of res5.

    Args:
        depth: 50 or 101, as in the paper; 152; or 14 and 26 for small networks.
        num_classes: Number of classes.
        input_shape: `(frames, height, width, channels)`; all but channels may be
            None.
        stem: `"8x8"` or `"32x2"`; see `C2D`.
        temporal_kernel: `"3x1x1"` inflates the first 1x1 of a residual block,
            `"3x3x3"` its 3x3.
        non_local: None, 1, 5, 10 or a dict of indices; see `C2D`.
        non_local_options: Dict of arguments of `NonLocal3D`.
        convention: Whose details to follow; see `C2D` and `Convention`.
        width: Channels after conv1; every other width follows it.
        dropout_rate: Before the classifier.
        stride_in_1x1: Residual blocks stride in their first 1x1 convolution, as the
            ResNets of `keras.applications` do, instead of in the 3x3.
        include_top: False ends the network with the features of res5.
        name: Name of the model.

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
    return video_resnet(
        "i3d",
        i3d_inflation(temporal_kernel),
        depth=depth,
        num_classes=num_classes,
        input_shape=input_shape,
        stem=stem,
        non_local=non_local,
        non_local_options=non_local_options,
        convention=convention,
        width=width,
        dropout_rate=dropout_rate,
        include_top=include_top,
        name=name,
        stride_in_1x1=stride_in_1x1,
    )
