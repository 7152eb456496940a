"""What each project calls the layers of its network, and their weights."""

import dataclasses
from collections.abc import Mapping

_TORCH = {"kernel": "weight", "bias": "bias"}
_TORCH_BN = ("weight", "bias", "running_mean", "running_var")


@dataclasses.dataclass(frozen=True)
class Names:
    """One project's names: format strings.

    Attributes:
        stem: Of conv1.
        stem_bn: Of its normalisation.
        layer: Of the convolutions in residual blocks; `{s}` is the stage, `{i}` the
            block and `{x}` the branch.
        layer_bn: Of their normalisations; `{y}` is the branch's.
        branches: Of the shortcut and of the three convolutions: what stands for
            `{x}` and `{y}`.
        block: Of the parts of a non-local block; `{x}` is the part.
        parts: theta, phi, g, out, bn and concat: what may stand for `{x}`.
        head: Of the classifier.
        first_stage: What stands for `{s}` in res2.
        weight: What a kernel and a bias are called.
        norm: Scale, bias, mean and variance of a normalisation.
        joint: Between a layer's name and its weight's.
        is_keras: Kernels are (T, H, W, I, O), (H, W, I, O) or (I, O), not PyTorch's
            (O, I, ...).
        epsilon: Of the normalisations.
        first_block: The number of a stage's first residual block.
        strided: The branch that has the stride of a residual block.
    """

    stem: str
    stem_bn: str
    layer: str
    layer_bn: str
    branches: Mapping[str, tuple[str, str]]
    block: str
    parts: Mapping[str, tuple[str, ...]]
    head: str
    first_stage: int = 2
    weight: Mapping[str, str] = dataclasses.field(default_factory=lambda: _TORCH)
    norm: tuple[str, ...] = _TORCH_BN
    joint: str = "."
    is_keras: bool = False
    epsilon: float = 1e-5
    first_block: int = 0
    strided: str = "2b"


def _parts(pattern, **others):
    parts = {x: (pattern.format(x),) for x in ("theta", "phi", "g", "out", "bn")}
    return parts | {"concat": ()} | others


_CAFFE2 = Names(
    stem="conv1",
    stem_bn="res_conv1_bn",
    layer="res{s}_{i}_branch{x}",
    layer_bn="res{s}_{i}_branch{y}_bn",
    branches={x: (x, x) for x in ("1", "2a", "2b", "2c")},
    block="nonlocal_conv{s}_{i}_{x}",
    parts=_parts("{}"),
    head="pred",
    weight={"kernel": "w", "bias": "b"},
    norm=("s", "b", "rm", "riv"),
    joint="_",
)

_NUMBERED = {
    "1": ("downsample.0", "downsample.1"),
    "2a": ("conv1", "bn1"),
    "2b": ("conv2", "bn2"),
    "2c": ("conv3", "bn3"),
}

_KERAS_RESNET = Names(
    stem="conv1_conv",
    stem_bn="conv1_bn",
    layer="stack{s}_block{i}_{x}_conv",
    layer_bn="stack{s}_block{i}_{y}_bn",
    branches={"1": ("0", "0"), "2a": ("1", "1"), "2b": ("2", "2"), "2c": ("3", "3")},
    block="",
    parts=_parts(""),
    head="predictions",
    first_stage=0,
    weight={"kernel": "kernel", "bias": "bias"},
    norm=("gamma", "beta", "moving_mean", "moving_variance"),
    joint="/",
    is_keras=True,
)

NAMES = {
    "video_nonlocal_net": _CAFFE2,
    "pyslowfast_caffe2": _CAFFE2,
    "pyslowfast": Names(
        stem="s1.pathway0_stem.conv",
        stem_bn="s1.pathway0_stem.bn",
        layer="s{s}.pathway0_res{i}.{x}",
        layer_bn="s{s}.pathway0_res{i}.{y}",
        branches={
            "1": ("branch1", "branch1_bn"),
            "2a": ("branch2.a", "branch2.a_bn"),
            "2b": ("branch2.b", "branch2.b_bn"),
            "2c": ("branch2.c", "branch2.c_bn"),
        },
        block="s{s}.pathway0_nonlocal{i}.{x}",
        parts=_parts("conv_{}", bn=("bn",)),
        head="head.projection",
    ),
    "mmaction2": Names(
        stem="backbone.conv1.conv",
        stem_bn="backbone.conv1.bn",
        layer="backbone.layer{s}.{i}.{x}.conv",
        layer_bn="backbone.layer{s}.{i}.{y}.bn",
        branches={
            "1": ("downsample", "downsample"),
            "2a": ("conv1", "conv1"),
            "2b": ("conv2", "conv2"),
            "2c": ("conv3", "conv3"),
        },
        block="backbone.layer{s}.{i}.non_local_block.{x}",
        parts={
            "theta": ("theta.conv",),
            "phi": ("phi.conv", "phi.0.conv"),  # `.0` where max pooling follows
            "g": ("g.conv", "g.0.conv"),
            "out": ("conv_out.conv",),
            "bn": ("conv_out.bn",),
            "concat": ("concat_project.conv",),
        },
        head="cls_head.fc_cls",
        first_stage=1,
    ),
    "gluoncv": Names(
        stem="first_stage.0",
        stem_bn="first_stage.1",
        layer="res_layers.{s}.{i}.{x}",
        layer_bn="res_layers.{s}.{i}.{y}",
        branches=_NUMBERED,
        block="res_layers.{s}.{i}.nonlocal_block.{x}",
        parts=_parts("{}", out=("W", "W_bn.0"), bn=("bn", "W_bn.1")),
        head="fc",
        first_stage=0,
    ),
    "torchvision": Names(
        stem="conv1",
        stem_bn="bn1",
        layer="layer{s}.{i}.{x}",
        layer_bn="layer{s}.{i}.{y}",
        branches=_NUMBERED,
        block="",
        parts=_parts(""),
        head="fc",
        first_stage=1,
    ),
    "keras_hub": _KERAS_RESNET,
    "keras_applications": dataclasses.replace(
        _KERAS_RESNET,
        layer="conv{s}_block{i}_{x}_conv",
        layer_bn="conv{s}_block{i}_{y}_bn",
        first_stage=2,
        epsilon=1.001e-5,
        first_block=1,
        strided="2a",
    ),
    "keras_nonlocal": dataclasses.replace(
        _KERAS_RESNET,
        stem="conv1",
        layer="res{s}_{i}_branch{x}",
        layer_bn="res{s}_{i}_branch{y}_bn",
        branches={x: (x, x) for x in ("1", "2a", "2b", "2c")},
        block="res{s}_{i}_nonlocal/{x}",
        parts=_parts("{}", out=("w_z",), bn=("norm",), concat=("concat_projection",)),
        head="pred",
        first_stage=2,
    ),
}
