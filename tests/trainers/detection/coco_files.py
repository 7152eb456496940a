"""Small data sets in COCO's format, for tests."""

import json

import numpy as np
from PIL import Image


def write_image(path, height=40, width=60, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def annotation(identity, image=1, bbox=(10, 5, 20, 15), category=1, **more):
    x, y, w, h = bbox
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "bbox": list(bbox),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [polygon],
        **more,
    }


def coco(annotations, num_images=1, categories=("cat", "dog"), size=(40, 60)):
    """The content of a JSON file; images are `1.png`, `2.png`, ..."""
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": size[0], "width": size[1]}
            for n in range(1, num_images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": c} for n, c in enumerate(categories, 1)],
    }


def write_folder(folder, content):
    """Writes a JSON file and random images beside it."""
    for seed, image in enumerate(content["images"]):
        size = image["height"], image["width"]
        write_image(folder / image["file_name"], *size, seed)
    (folder / "annotations.json").write_text(json.dumps(content))
