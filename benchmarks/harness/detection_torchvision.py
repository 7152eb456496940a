"""torchvision's side of benchmarks/detection.py.

Normalisation is frozen, as in the networks that torchvision has COCO weights of.
"""

import numpy as np
import torch
from torchvision.models import detection as models
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from harness import detection_networks
from harness.detection_networks import CLASSES, DECAY, FROZEN, MOMENTUM, RATE
from harness.process import Made


def make(network, size, threads, task, compiled=False):
    """Detection in an image of `size`, or a step of training."""
    torch.set_num_threads(threads)
    images, objects = detection_networks.inputs(network, size, task)
    step = {"detection": _detection, "training": _training}[task]
    step = step(network, images, objects, compiled)
    return Made({task: step}, lambda: [np.array(step())])


def _detection(network, images, objects, compiled):
    """A function that detects the objects in an image, and counts them."""
    model = _model(network, images[0], compiled).eval()

    def detect():
        with torch.inference_mode():
            found = model([_to_tensor(images[0])])[0]
            if "masks" in found:
                found["masks"] = found["masks"] > 0.5
            return len(found["scores"])

    return detect


def _training(network, images, objects, compiled):
    """A function of one step of SGD, that gives the loss."""
    model = _model(network, images[0], compiled).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    options = {"lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
    optimizer = torch.optim.SGD(trained, **options)
    targets = [{name: torch.from_numpy(x) for name, x in o.items()} for o in objects]

    def step():
        optimizer.zero_grad()
        loss = sum(model([_to_tensor(x) for x in images], targets).values())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _model(network, image, compiled):
    short, long = sorted(image.shape[:2])
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=5 - FROZEN,
    )
    make = {"maskrcnn": models.MaskRCNN, "keypointrcnn": models.KeypointRCNN}[network]
    model = make(backbone, CLASSES[network], min_size=short, max_size=long)
    state = detection_networks.read(network)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    model.load_state_dict(tensors)
    return torch.compile(model) if compiled else model


def _to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
