"""What detection networks of different projects differ in, each as one convention."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DetectionConvention:
    """The choices of one project.

    Attributes:
        mean: Of the pixels (0-255), in the order of `color`.
        std: Standard deviation of the pixels.
        color: Order of the channels that the network sees, `"RGB"` or `"BGR"`.
        stride_in_1x1: Residual blocks stride in their first 1x1 convolution, unless
            it is a ResNeXt.
        normalization: Of the backbone: `"frozen"` or `"batch"`.
        head_normalization: Of FPN, box and mask head: None or `"batch"`.
        rpn_convs: 3x3 convolutions of the region proposal network.
        box_convs: 3x3 convolutions of the box head; 0: it has two hidden layers, else
            one.
        rpn_beta: Below this difference, smooth L1 is quadratic: for proposals.
        box_beta: The same for boxes.
    """

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    color: str = "RGB"
    stride_in_1x1: bool = False
    normalization: str = "frozen"
    head_normalization: str | None = None
    rpn_convs: int = 1
    box_convs: int = 0
    rpn_beta: float = 1 / 9
    box_beta: float = 1 / 9


DETECTION_CONVENTIONS = {
    # maskrcnn_resnet50_fpn and keypointrcnn_resnet50_fpn.
    "torchvision": DetectionConvention(),
    # maskrcnn_resnet50_fpn_v2 (Li et al., 2021).
    "torchvision_v2": DetectionConvention(
        normalization="batch", head_normalization="batch", rpn_convs=2, box_convs=4
    ),
    # The network, pixels and losses of Detectron (2017), that of the paper's Tables 5
    # and 6. Boxes are torchvision's here: Detectron's are a pixel wider and higher.
    "detectron": DetectionConvention(
        mean=(102.9801, 115.9465, 122.7717),
        std=(1.0, 1.0, 1.0),
        color="BGR",
        stride_in_1x1=True,
        box_beta=1.0,
    ),
}
