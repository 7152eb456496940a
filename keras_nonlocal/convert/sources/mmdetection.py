"""mmdetection (open-mmlab): backbone, FPN and balanced pyramid of its detectors.

Of networks in its `"pytorch"` style, which stride in the 3x3 and see torchvision's
pixels: Faster and Mask R-CNN, RetinaNet without extra levels, and Libra R-CNN, whose
block is the only trained non-local one for detection that is public. Their heads are
left out: they see other regions (RoIAlign with as many points as a box has cells) and
classes in another order.
"""

from keras_nonlocal.convert.preprocessing import IMAGENET
from keras_nonlocal.convert.sources.names import LAYERS
from keras_nonlocal.convert.sources.source import Source

_NECK = {
    "lateral_convs.{level}.conv.{w}": "fpn_lateral{level}/{w}",
    "fpn_convs.{level}.conv.{w}": "fpn_output{level}/{w}",
}

SOURCE = Source(
    name="mmdetection",
    names={
        "backbone.conv1.weight": "conv1/kernel",
        "backbone.bn1.{bn}": "conv1_bn/{bn}",
        "backbone.{res}.{i}.conv{c}.weight": "{res}_{i}_branch2{c}/kernel",
        "backbone.{res}.{i}.bn{c}.{bn}": "{res}_{i}_branch2{c}_bn/{bn}",
        "backbone.{res}.{i}.downsample.0.weight": "{res}_{i}_branch1/kernel",
        "backbone.{res}.{i}.downsample.1.{bn}": "{res}_{i}_branch1_bn/{bn}",
        **{f"neck.{name}": path for name, path in _NECK.items()},
        **{f"neck.0.{name}": path for name, path in _NECK.items()},
        "neck.1.refine.{one}.conv.{w}": "bfp_nonlocal/{one}/{w}",
    },
    fields={
        "res": LAYERS,
        "level": {str(i): str(i + 2) for i in range(4)},
        "one": {"theta": "theta", "phi": "phi", "g": "g", "conv_out": "w_z"},
    },
    ignored=(
        r".*\bnum_batches_tracked",
        r"(data_preprocessor|rpn_head|roi_head|bbox_head|mask_head)\..*",
    ),
    is_image_network=lambda state: True,
    pixels=IMAGENET,
)
