"""What each project calls a weight, from our path: written from its own code.

The other way round from the tables that are tested, and without them.
"""

import re

TORCH_BN = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
TORCH = {"kernel": "weight", "bias": "bias"}
CAFFE2 = {
    "gamma": "s",
    "beta": "b",
    "moving_mean": "rm",
    "moving_variance": "riv",
    "kernel": "w",
    "bias": "b",
}


def _take_apart(path):
    """`res3_1_branch2a_bn/gamma` to (3, 1, "branch2a_bn", "", "gamma")."""
    layer, *part, kind = path.split("/")
    match = re.fullmatch(r"res(\d)_(\d+)_(\w+)", layer)
    stage, block, layer = (
        (int(match[1]), int(match[2]), match[3])
        if match
        else (
            0,
            0,
            layer,
        )
    )
    return stage, block, layer, "".join(part), kind


def video_nonlocal_net(path):
    stage, block, layer, part, kind = _take_apart(path)
    if layer == "conv1_bn":
        return f"res_conv1_bn_{CAFFE2[kind]}"
    if layer == "nonlocal":
        part = {"w_z": "out", "norm": "bn"}.get(part, part)
        return f"nonlocal_conv{stage}_{block}_{part}_{CAFFE2[kind]}"
    prefix = f"res{stage}_{block}_" if stage else ""
    return f"{prefix}{layer}_{CAFFE2[kind]}"


def pyslowfast(path):
    stage, block, layer, part, kind = _take_apart(path)
    kind = TORCH_BN.get(kind) or TORCH[kind]
    if layer == "conv1":
        return f"s1.pathway0_stem.conv.{kind}"
    if layer == "conv1_bn":
        return f"s1.pathway0_stem.bn.{kind}"
    if layer == "pred":
        return f"head.projection.{kind}"
    if layer == "nonlocal":
        part = {"norm": "bn", "w_z": "conv_out"}.get(part, f"conv_{part}")
        return f"s{stage}.pathway0_nonlocal{block}.{part}.{kind}"
    layer = layer.replace("branch2", "branch2.")
    return f"s{stage}.pathway0_res{block}.{layer}.{kind}"


def mmaction2(path, sub_sample=True):
    stage, block, layer, part, kind = _take_apart(path)
    end = f"bn.{TORCH_BN[kind]}" if kind in TORCH_BN else f"conv.{TORCH[kind]}"
    if layer in ("conv1", "conv1_bn"):
        return f"backbone.conv1.{end}"
    if layer == "pred":
        return f"cls_head.fc_cls.{TORCH[kind]}"
    prefix = f"backbone.layer{stage - 1}.{block}"
    if layer == "nonlocal":
        followed = ".0" if sub_sample and part in ("phi", "g") else ""
        part = {"w_z": "conv_out", "norm": "conv_out"}.get(part, part)
        part = part.replace("concat_projection", "concat_project")
        return f"{prefix}.non_local_block.{part}{followed}.{end}"
    return f"{prefix}.{_numbered(layer.removesuffix('_bn'))}.{end}"


def _numbered(branch):
    names = {"1": "downsample", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
    return names[branch.removeprefix("branch")]


def gluoncv(path):
    stage, block, layer, part, kind = _take_apart(path)
    kind = TORCH_BN.get(kind) or TORCH[kind]
    if layer in ("conv1", "conv1_bn"):
        return f"first_stage.{int(layer == 'conv1_bn')}.{kind}"
    if layer == "pred":
        return f"fc.{kind}"
    prefix = f"res_layers.{stage - 2}.{block}"
    if layer == "nonlocal":
        part = {"w_z": "W", "norm": "bn"}.get(part, part)
        return f"{prefix}.nonlocal_block.{part}.{kind}"
    return f"{prefix}.{_torchvision_layer(layer)}.{kind}"


def torchvision(path):
    stage, block, layer, _, kind = _take_apart(path)
    kind = TORCH_BN.get(kind) or TORCH[kind]
    if layer in ("conv1", "conv1_bn", "pred"):
        name = {"conv1_bn": "bn1", "pred": "fc"}.get(layer, layer)
        return f"{name}.{kind}"
    if layer == "nonlocal":
        return "of video networks only"
    return f"layer{stage - 1}.{block}.{_torchvision_layer(layer)}.{kind}"


def _torchvision_layer(layer):
    is_bn = layer.endswith("_bn")
    name = _numbered(layer.removesuffix("_bn"))
    if name == "downsample":
        return f"downsample.{int(is_bn)}"
    return name.replace("conv", "bn") if is_bn else name


_HEADS = {
    "rpn_conv1": "rpn.head.conv.0.0",
    "rpn_logits": "rpn.head.cls_logits",
    "rpn_deltas": "rpn.head.bbox_pred",
    "box_fc6": "roi_heads.box_head.fc6",
    "box_fc7": "roi_heads.box_head.fc7",
    "box_logits": "roi_heads.box_predictor.cls_score",
    "box_deltas": "roi_heads.box_predictor.bbox_pred",
    "mask_deconv": "roi_heads.mask_predictor.conv5_mask",
    "mask_logits": "roi_heads.mask_predictor.mask_fcn_logits",
}


def torchvision_detection(path):
    """Of Mask R-CNN, v1."""
    layer, kind = path.split("/")
    if layer.startswith(("conv1", "res")):
        return f"backbone.body.{torchvision(path)}"
    if layer.startswith("fpn_"):
        blocks = {"l": "inner_blocks", "o": "layer_blocks"}[layer[4]]
        name = f"backbone.fpn.{blocks}.{int(layer[-1]) - 2}.0"
    elif layer.startswith("mask_conv"):
        name = f"roi_heads.mask_head.{int(layer[-1]) - 1}.0"
    else:
        name = _HEADS[layer]
    return f"{name}.{TORCH[kind]}"


def keras_applications(path):
    """`layer/weight` of a ResNet."""
    stage, block, layer, _, kind = _take_apart(path)
    end = "bn" if layer.endswith("_bn") else "conv"
    if not stage:
        return f"conv1_{end}/{kind}"
    branches = {"1": "0", "2a": "1", "2b": "2", "2c": "3"}
    branch = branches[layer.removesuffix("_bn").removeprefix("branch")]
    return f"conv{stage}_block{block + 1}_{branch}_{end}/{kind}"
