"""The projects whose weights can be loaded, one module each."""

from keras_nonlocal.convert.sources import (
    alexhex7,
    detectron2,
    gluoncv,
    keras_resnet,
    mmaction2,
    mmdetection,
    own,
    pyslowfast,
    torchvision,
    torchvision_detection,
    video_nonlocal_net,
)
from keras_nonlocal.convert.sources.source import Source

# Of two that fit as well, the first is found.
_ALL = (
    video_nonlocal_net.SOURCE,
    video_nonlocal_net.PYSLOWFAST,
    pyslowfast.SOURCE,
    mmaction2.SOURCE,
    mmdetection.SOURCE,
    detectron2.SOURCE,
    gluoncv.SOURCE,
    torchvision.SOURCE,
    torchvision_detection.SOURCE,
    keras_resnet.KERAS_APPLICATIONS,
    keras_resnet.KERAS_HUB,
    own.SOURCE,
    alexhex7.SOURCE,
)
SOURCES = {source.name: source for source in _ALL}

__all__ = ["SOURCES", "Source"]
