"""Detection in one image by one library, turn by turn, in its own process.

    python -m harness.detection_run ours|torchvision|compiled NETWORK HxW

For each line on stdin it prints [seconds, peak MiB, detections] as JSON. Weights are
those of tests/parity; the library's own transform resizes no image of this size.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness import detection_networks
from harness.measure import peak_of_process
from harness.processes import be_killed_first, die_with_parent


def ours(network, image, threads):
    """A function without arguments that detects, and gives scores."""
    import tensorflow as tf

    import keras_nonlocal

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    classes = {
        "maskrcnn": keras_nonlocal.MaskRCNN,
        "keypointrcnn": keras_nonlocal.KeypointRCNN,
    }
    short, long = sorted(image.shape[:2])
    model = classes[network](min_size=short, max_size=long)
    keras_nonlocal.convert.load_weights(model, detection_networks.read(network))
    return lambda: model.detect([image])[0]["scores"]


def torchvision(network, image, threads, compiled=False):
    """The same of torchvision; its masks are pasted, too."""
    import torch
    from torchvision.models import detection

    torch.set_num_threads(threads)
    short, long = sorted(image.shape[:2])
    make = getattr(detection, f"{network}_resnet50_fpn")
    options = {"weights": None, "weights_backbone": None}
    model = make(**options, min_size=short, max_size=long).eval()
    state = detection_networks.read(network)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    model.load_state_dict(tensors, strict=False)
    model = torch.compile(model) if compiled else model

    def detect():
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
            found = model([pixels])[0]
            if "masks" in found:
                found["masks"] = found["masks"] > 0.5
            return found["scores"].numpy()

    return detect


def main(subject, network, size, threads):
    be_killed_first()
    die_with_parent()
    image = detection_networks.image(*map(int, size.split("x")))
    options = {"compiled": True} if subject == "compiled" else {}
    make = ours if subject == "ours" else torchvision
    detect = make(network, image, int(threads), **options)
    detect()  # traces, compiles
    for _ in sys.stdin:
        detect()  # fills caches that the other process emptied
        start = time.perf_counter()
        scores = detect()
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, peak_of_process(), len(scores)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
