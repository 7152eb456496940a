"""C2D: a 2-D ResNet over frames (paper, Table 1)."""

from keras_nonlocal.models.inflation import NO_INFLATION
from keras_nonlocal.models.video_resnet import video_resnet


def C2D(
    depth=50,
    num_classes=400,
    input_shape=(8, 224, 224, 3),
    stem="8x8",
    non_local=None,
    non_local_options=None,
    convention="video_nonlocal_net",
    width=64,
    dropout_rate=0.5,
    include_top=True,
    stride_in_1x1=False,
    name=None,
):
    """ResNet whose convolutions see one frame at a time, with non-local blocks.

    Frames are combined in the temporal pooling, in the final average and in the
    non-local blocks. Layers are named `conv1`, `res3_0_branch2a`, `res3_1_nonlocal`,
    `pred`...; `get_layer("res4").output` are the features of a stage.

    Args:
        depth: 50 or 101, as in the paper; 152; or 14 and 26 for small networks.
        num_classes: Number of classes.
        input_shape: `(frames, height, width, channels)`; all but channels may be
            None.
        stem: `"8x8"` keeps the frames up to pool2 (8 become 4); `"32x2"` also
            halves them in conv1 and in pool1 (32 become 4).
        non_local: None, or 1, 5 or 10 blocks where the paper has them, or a dict
            from stage to the residual blocks that one follows, such as
            `{"res3": [1, 3]}`.
        non_local_options: Dict of arguments of `NonLocal3D`, above those of the
            convention. Under a stage's name it may hold such a dict for that stage
            alone: `{"mode": "dot_product", "res3": {"group_size": 4}}`.
        convention: Implementation to follow in details: `"video_nonlocal_net"`,
            `"pyslowfast"`, `"mmaction2"`, `"gluoncv"` or `"paper"`; see `Convention`.
        width: Channels after conv1; every other width follows it.
        dropout_rate: Before the classifier.
        include_top: False ends the network with the features of res5.
        stride_in_1x1: Residual blocks stride in their first 1x1 convolution, as the
            ResNets of `keras.applications` do, instead of in the 3x3.
        name: Name of the model.

    Returns:
        `keras.Model`: clips `(B, T, H, W, C)` to logits `(B, num_classes)`.

    Raises:
        ValueError: An argument outside its choices; a clip too small for the
            network; a `non_local` that inserts no block.

    Example:
    >>> model = C2D(26, 10, (8, 64, 64, 3), width=16, non_local={"res3": [0]})
    >>> model.output_shape
    (None, 10)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """
    return video_resnet("c2d", NO_INFLATION, **locals())
