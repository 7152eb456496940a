"""Reduced recipes of detectors: their data, weights and sizes."""

import json

import h5py
import numpy as np

from tests.convert import spelling
from tests.convert.files_of_weights import write
from tests.convert.networks import draw_state
from tests.trainers import recipes
from tests.trainers.detection.coco_files import annotation, coco, write_image
from tests.trainers.recipes import load, num_replicas, of_script

ALL = of_script("detection.py")
WIDTH, SIDE = 8, 64
NUM_IMAGES = {"train": 4, "val": 2}
_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # ids that COCO has not used
COCO_IDS = [n for n in range(1, 91) if n not in _GAPS]
_BOXES = ((5, 5, 40, 30), (20, 10, 50, 45))


def reductions(path):
    """Overrides: two steps, an image a replica, narrow layers, small images."""
    replicas = num_replicas(path)
    return (
        "trainer.train_steps=2",
        f"runtime.num_cpu_devices={replicas}",
        f"task.train_data.global_batch_size={replicas}",
        f"task.validation_data.global_batch_size={replicas}",
        "task.sampling.rpn_batch_size=16",
        "task.sampling.box_batch_size=8",
        f"task.model.width={WIDTH}",
        *(
            f"task.{data}.{name}"
            for data in ("train_data", "validation_data")
            for name in (f"min_size=[{SIDE}]", f"max_size={2 * SIDE}")
        ),
    )


def run(path, folder, *overrides):
    """As `recipes.run`, with `reductions`; `write_data` has written to the folder."""
    _write_weights(folder, load(path).task)
    return recipes.run(path, folder, (*reductions(path), *overrides))


# === Data under the paths of the recipes ===


def write_data(folder):
    """Images of noise with two objects each, annotated as each data set is."""
    from trainers.detection import shapes

    for seed, (split, count) in enumerate(NUM_IMAGES.items()):
        objects = [
            annotation(2 * n + k, n + 1, box, category=[1, 90][k])
            for n in range(count)
            for k, box in enumerate(_BOXES)
        ]
        data = folder / "data/coco"
        images = _coco(objects, count)
        _write_images(data / f"{split}2017", images)
        _write_json(data / f"annotations/instances_{split}2017.json", images)
        persons = data / f"annotations/person_keypoints_{split}2017.json"
        _write_json(persons, _persons(images))
        own = [found | {"category_id": 1 + found["id"] % 2} for found in objects]
        own = coco(own, count, size=(60, 80))
        _write_images(folder / "IMAGES" / split, own)
        _write_json(folder / "IMAGES" / split / "annotations.json", own)
        for task in shapes.TASKS:
            images = folder / "demo_detection/images" / task / split
            shapes.write_images(str(images), count, task, seed)


def _coco(objects, count):
    """With the 80 categories, whose ids have gaps."""
    content = coco(objects, count, size=(60, 80))
    categories = [{"id": n, "name": f"category {n}"} for n in COCO_IDS]
    return content | {"categories": categories}


def _persons(content):
    """The objects of category 1, with 17 keypoints."""
    names = ["nose"]
    parts = "eye ear shoulder elbow wrist hip knee ankle".split()
    names += [f"{side}_{part}" for part in parts for side in ("left", "right")]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
    objects = []
    for found in content["annotations"]:
        if found["category_id"] == 1:
            x, y, *_ = found["bbox"]
            points = [[x + 2 * k, y + k, 2] for k in range(17)]
            more = {"keypoints": sum(points, []), "num_keypoints": 17}
            objects.append(found | more)
    return content | {"annotations": objects, "categories": [category]}


def _write_images(folder, content):
    folder.mkdir(parents=True)
    for seed, image in enumerate(content["images"]):
        size = image["height"], image["width"]
        write_image(folder / image["file_name"], *size, seed)


def _write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# === Weights under the paths of the recipes ===


def _write_weights(folder, task):
    """Writes what `init_checkpoint` names: an ImageNet ResNet, or Mask R-CNN."""
    path = folder / task.init_checkpoint
    if not task.init_checkpoint or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".h5":
        _write_h5(path, draw_state(_backbone(task.model), spelling.keras_applications))
    elif "maskrcnn" in path.name:
        model = _mask_rcnn(task.model)
        write(_torch(draw_state(model, spelling.torchvision_detection)), path)
    else:
        write(_torch(draw_state(_backbone(task.model), spelling.torchvision)), path)


def _backbone(model):
    from keras_nonlocal.models import resnet_backbone

    groups = {"groups": model.groups, "group_width": model.group_width}
    return resnet_backbone(model.depth, width=WIDTH, **groups)


def _mask_rcnn(model):
    from keras_nonlocal import MaskRCNN

    return MaskRCNN(model.depth, num_classes=91, width=WIDTH)


def _torch(state):
    """Kernels (outputs, inputs, height, width)."""
    return {
        name: x.transpose(3, 2, 0, 1) if x.ndim == 4 else x for name, x in state.items()
    }


def _write_h5(path, state):
    """As `keras.applications` has them, biases of the convolutions included."""
    biases = {
        name.replace("kernel", "bias"): np.ones(x.shape[-1], "float32")
        for name, x in state.items()
        if name.endswith("/kernel")
    }
    with h5py.File(path, "w") as file:
        for name, array in (state | biases).items():
            layer, weight = name.split("/")
            file[f"{layer}/{layer}/{weight}:0"] = array
