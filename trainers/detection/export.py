"""Exports a trained detector as a SavedModel that TF Serving can load.

Versions are laid out as in `trainers/core/export.py`, with these assets:

    assets/classes.txt            one class name per line; the first is the background
    assets/preprocessing.json     the network's input, and the keypoints

Images are resized and normalised in the exported graph: clients send pixels or JPEGs.
"""

import sys

import numpy as np
import tensorflow as tf

from trainers.core import export, files
from trainers.core.export import ExportError
from trainers.detection import serving

# Largest differences from the Keras model, in pixels and in scores.
_PIXELS, _SCORES = 0.05, 1e-3


def export_saved_model(task, model, export_dir):
    """Writes `model` into the next numbered folder of `export_dir`.

    Args:
        task: Task the model was trained for.
        model: `MaskRCNN` or `KeypointRCNN`, weights loaded.
        export_dir: Folder of versions, local or on a file system of TensorFlow's;
            created if it does not exist.

    Returns:
        The folder of the new version. Its `assets.extra/export.json` has the largest
        differences of boxes, in pixels, and scores from those of `model.detect`.

    Raises:
        UserError: `export_dir` is a file.
        FileError: `export_dir` cannot be written to.
        ExportError: The written network disagrees with `model`. After any of these,
            nothing new is left in `export_dir`.
    """
    limits = task.task_config.export
    with export.next_version(export_dir) as (folder, version):
        module = serving.ServingModule(model, limits)
        signatures = {"serving_default": module.images, "jpeg": module.jpeg}
        texts = {
            "classes.txt": export.class_text(task.class_names),
            "preprocessing.json": files.to_json(preprocessing(task, model)) + "\n",
        }
        export.save(module, signatures, texts, folder)
        images = _example_images(model)
        encoded = [tf.io.encode_jpeg(image).numpy() for image in images]
        requests = {
            "serving_default": {"images": images[:1]},
            "jpeg": {"jpeg": encoded[:1]},
        }
        export.write_warmup(folder, requests)
        network = tf.saved_model.load(folder)
        differences = _check(model, network, images, encoded)
        export.replay_warmup(folder, network)
        report = {"differences": differences, "limits": limits.limits}
        export.write_report(folder, report)
    print(
        "The exported network's boxes differ by at most "
        f"{differences['pixels']:.1e} pixels from those of the Keras model.",
        file=sys.stderr,
    )
    return version


def preprocessing(task, model) -> dict:
    """What the network expects and returns, for JSON."""
    config, rules = task.task_config.model, model.rules
    about = {
        "color": rules.color,
        "mean": list(rules.mean),
        "std": list(rules.std),
        "min_size": model.min_size,
        "max_size": model.max_size,
    }
    if config.target == "keypoints":
        about["keypoints"] = list(config.keypoint_names)
        about["skeleton"] = list(config.skeleton)
    return about


def _example_images(model):
    """Two images of noise, wider than high."""
    height = max(model.min_size // 2, 8)
    shape = (2, height, height + 8, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _check(model, loaded, images, encoded) -> dict:
    """Largest differences of both signatures from the Keras model."""
    decoded = np.stack([tf.io.decode_jpeg(image) for image in encoded])
    found = [
        _differences(model, loaded.signatures[name](**inputs), pixels)
        for name, inputs, pixels in (
            ("serving_default", {"images": tf.constant(images)}, images),
            ("jpeg", {"jpeg": tf.constant(encoded)}, decoded),
        )
    ]
    pixels, scores = (float(max(x)) for x in zip(*found, strict=True))
    # Written so that a NaN fails too.
    if not (pixels <= _PIXELS and scores <= _SCORES):
        raise ExportError(
            "The exported network disagrees with the Keras model: its boxes differ by "
            f"{pixels:.1e} pixels (at most {_PIXELS}), its scores by {scores:.1e} (at "
            f"most {_SCORES}). Nothing was exported. If a difference is nan, the "
            "weights are not finite: export an earlier checkpoint."
        )
    return {"pixels": pixels, "scores": scores}


def _differences(model, outputs, images):
    """(pixels, scores) between the outputs of a signature and `model.detect`."""
    outputs = {name: value.numpy() for name, value in outputs.items()}
    pixels = scores = 0.0
    for i, found in enumerate(model.detect(list(images), batch_size=len(images))):
        count = outputs["num_detections"][i]
        if count != len(found["boxes"]):
            return np.nan, np.nan
        boxes = outputs["detection_boxes"][i, :count] - found["boxes"]
        own = outputs["detection_scores"][i, :count] - found["scores"]
        pixels = max(pixels, np.abs(boxes).max(initial=0))
        scores = max(scores, np.abs(own).max(initial=0))
    return pixels, scores
