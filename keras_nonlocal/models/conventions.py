"""The differences between the published implementations, each as one `Convention`.

They do not change the shapes of weights, but the numbers. The implementations agree on
the stride in the 3x3 convolution, symmetric padding, batch normalisation with epsilon
1e-5, the blocks that are inflated and the places of non-local blocks.
"""

import dataclasses

from keras_nonlocal.models.resnet import he_normal_fan_out


@dataclasses.dataclass(frozen=True)
class Convention:
    """The choices of one implementation where implementations differ.

    Attributes:
        pool1_frames: Frames under pool1's window in the `"32x2"` stem, where its
            stride in time is 2 (1 drops every other frame). The `"8x8"` stem has
            1 everywhere.
        padded_pool1: Architectures whose pool1 pads height and width by 1: a
            224 x 224 clip then gives 56 x 56 maps, else 55 x 55.
        pool2_frames: Frames under pool2's window (stride 2 in time).
        global_pool5: On test crops larger than the training crop, pool5 averages the
            whole map. False: a window of the size in training slides over the map, and
            probabilities are averaged (`fully_convolutional`).
        zero_init_residual: The last batch normalisation of every residual block
            starts with gamma 0.
        sub_sample: Non-local keys are max-pooled by 2 in space.
        pool_position: That pooling comes `"before"` or `"after"` phi and g.
        use_scale: The embedded Gaussian divides by sqrt(d).
        use_bias: theta, phi and g have biases.
        use_output_bias: W_z has a bias.
        he_normal_blocks: The kernels of non-local blocks start as He normal (by
            fan out), not with standard deviation 0.01.
        mean: RGB mean of the pixels (0-255) that its weights expect.
        std: RGB standard deviation that its weights expect.
    """

    pool1_frames: int = 2
    padded_pool1: tuple[str, ...] = ("c2d", "i3d")
    pool2_frames: int = 2
    global_pool5: bool = False
    zero_init_residual: bool = True
    sub_sample: bool = True
    pool_position: str = "before"
    use_scale: bool = True
    use_bias: bool = True
    use_output_bias: bool = True
    he_normal_blocks: bool = False
    mean: tuple[float, float, float] = (114.75, 114.75, 114.75)
    std: tuple[float, float, float] = (57.375, 57.375, 57.375)

    @property
    def non_local_options(self):
        """The arguments of `NonLocal3D` that the convention determines."""
        initial = {}
        if self.he_normal_blocks:
            initial = {"kernel_initializer": he_normal_fan_out()}
        return initial | {
            "sub_sample": self.sub_sample,
            "pool_position": self.pool_position,
            "use_scale": self.use_scale,
            "use_bias": self.use_bias,
            "use_output_bias": self.use_output_bias,
        }


_IMAGENET = {
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}

CONVENTIONS = {
    # The authors' release. Reproduces the paper's FLOPs (Table 2e).
    "video_nonlocal_net": Convention(padded_pool1=()),
    # facebookresearch/SlowFast, which has the "8x8" stem only: "32x2" is the authors'
    # with PySlowFast's padding.
    "pyslowfast": Convention(he_normal_blocks=True),
    # open-mmlab/mmaction2: I3D of its configs with non-local blocks; its C2D is a copy
    # of the authors' and does not pad pool1. It has no "32x2" C2D.
    "mmaction2": Convention(
        pool1_frames=1,
        padded_pool1=("i3d",),
        global_pool5=True,
        zero_init_residual=False,
        pool_position="after",
        use_scale=False,
        use_output_bias=False,
        **_IMAGENET,
    ),
    # dmlc/gluon-cv: I3D "32x2" only; C2D and "8x8" follow it here. The initialisation
    # of its blocks and the momentum of their normalisation are not reproduced, as
    # trained weights do not depend on them.
    "gluoncv": Convention(
        pool1_frames=1,
        global_pool5=True,
        zero_init_residual=False,
        sub_sample=False,
        **_IMAGENET,
    ),
    # Table 1 and Sec. 3.3 of the paper; "8x8" has strides of 1 in time in conv1 and
    # pool1.
    "paper": Convention(
        pool1_frames=3,
        pool2_frames=3,
        pool_position="after",
        use_scale=False,
        he_normal_blocks=True,
    ),
}
