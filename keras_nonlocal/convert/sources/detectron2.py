"""Detectron2 (facebookresearch): backbone and FPN of its detectors.

Of ResNets with the stride in the first 1x1 convolution, its R50 and R101. Their heads
are left out: they see other regions (RoIAlign with as many points as a box has cells)
and classes in another order.
"""

from keras_nonlocal.convert.preprocessing import Pixels
from keras_nonlocal.convert.sources.names import branches
from keras_nonlocal.convert.sources.source import Source

_BODY = "backbone.bottom_up."

SOURCE = Source(
    name="detectron2",
    names={
        f"{_BODY}stem.conv1.weight": "conv1/kernel",
        _BODY + "stem.conv1.norm.{bn}": "conv1_bn/{bn}",
        _BODY + "res{s}.{i}.{conv}.weight": "res{s}_{i}_{conv}/kernel",
        _BODY + "res{s}.{i}.{conv}.norm.{bn}": "res{s}_{i}_{conv}_bn/{bn}",
        "backbone.fpn_lateral{s}.{w}": "fpn_lateral{s}/{w}",
        "backbone.fpn_output{s}.{w}": "fpn_output{s}/{w}",
    },
    fields={"conv": branches("shortcut", "conv1", "conv2", "conv3")},
    ignored=(
        r".*\bnum_batches_tracked",
        r"(proposal_generator|roi_heads)\..*|pixel_(mean|std)",
    ),
    is_image_network=lambda state: True,
    stride_in_1x1=True,
    pixels=Pixels("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)),
)
