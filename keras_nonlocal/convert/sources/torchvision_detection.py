"""torchvision's Mask R-CNN and Keypoint R-CNN with ResNet and FPN, v1 and v2.

Names of files from before torchvision 0.15 are aliases. Batch normalisation has
epsilon 1e-5, but 0 in the first COCO weights (`COCO_V1` of
`maskrcnn_resnet50_fpn`), which no file shows: `load_weights(..., epsilon=0.0)`.
"""

from keras_nonlocal.convert.preprocessing import IMAGENET
from keras_nonlocal.convert.sources.names import LAYERS
from keras_nonlocal.convert.sources.source import Source

_BINS = 7 * 7  # that the first fully connected layer sees of each channel
_FIRST = ("roi_heads.box_head.fc6.weight", "roi_heads.box_head.5.weight")


def _channels_last(state):
    """The first fully connected layer with its inputs in the order (y, x, channel)."""
    state = dict(state)
    for name in _FIRST:
        weight = state.get(name)
        if getattr(weight, "ndim", 0) == 2 and weight.shape[1] % _BINS == 0:
            cube = weight.reshape(len(weight), -1, _BINS).transpose(0, 2, 1)
            state[name] = cube.reshape(weight.shape)
    return state


def _numbered(*names):
    """A field of names, to 1, 2, 3..."""
    return {name: str(i + 1) for i, name in enumerate(names)}


_BODY = "backbone.body."
_FPN = "backbone.fpn."

SOURCE = Source(
    name="torchvision_detection",
    names={
        f"{_BODY}conv1.weight": "conv1/kernel",
        _BODY + "bn1.{bn}": "conv1_bn/{bn}",
        _BODY + "{res}.{i}.conv{c}.weight": "{res}_{i}_branch2{c}/kernel",
        _BODY + "{res}.{i}.bn{c}.{bn}": "{res}_{i}_branch2{c}_bn/{bn}",
        _BODY + "{res}.{i}.downsample.0.weight": "{res}_{i}_branch1/kernel",
        _BODY + "{res}.{i}.downsample.1.{bn}": "{res}_{i}_branch1_bn/{bn}",
        _FPN + "{fpn}.{level}.0.{w}": "fpn_{fpn}{level}/{w}",
        _FPN + "{fpn}.{level}.1.{bn}": "fpn_{fpn}{level}_bn/{bn}",
        _FPN + "{fpn}.{level}.{w}": "fpn_{fpn}{level}/{w}",
        "rpn.head.conv.{k}.0.{w}": "rpn_conv{k}/{w}",
        "rpn.head.conv.{w}": "rpn_conv1/{w}",
        "rpn.head.cls_logits.{w}": "rpn_logits/{w}",
        "rpn.head.bbox_pred.{w}": "rpn_deltas/{w}",
        "roi_heads.box_head.{k}.0.weight": "box_conv{k}/kernel",
        "roi_heads.box_head.{k}.1.{bn}": "box_conv{k}_bn/{bn}",
        "roi_heads.box_head.{fc}.{w}": "box_{fc}/{w}",
        "roi_heads.box_predictor.cls_score.{w}": "box_logits/{w}",
        "roi_heads.box_predictor.bbox_pred.{w}": "box_deltas/{w}",
        "roi_heads.mask_head.{k}.0.{w}": "mask_conv{k}/{w}",
        "roi_heads.mask_head.{k}.1.{bn}": "mask_conv{k}_bn/{bn}",
        "roi_heads.mask_head.mask_fcn{i}.{w}": "mask_conv{i}/{w}",
        "roi_heads.mask_predictor.conv5_mask.{w}": "mask_deconv/{w}",
        "roi_heads.mask_predictor.mask_fcn_logits.{w}": "mask_logits/{w}",
        "roi_heads.keypoint_head.{even}.{w}": "keypoint_conv{even}/{w}",
        "roi_heads.keypoint_predictor.kps_score_lowres.{w}": "keypoint_deconv/{w}",
    },
    fields={
        "res": LAYERS,
        "fpn": {"inner_blocks": "lateral", "layer_blocks": "output"},
        "level": {str(i): str(i + 2) for i in range(4)},
        "k": _numbered(*"0123"),
        "even": _numbered(*map(str, range(0, 16, 2))),  # ReLUs have the odd numbers
        "fc": {"fc6": "fc6", "fc7": "fc7", "5": "fc6"},
    },
    normalize=_channels_last,
    pixels=IMAGENET,
)
