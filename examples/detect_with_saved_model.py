"""Detects objects in images with an exported network, without Keras.

    python examples/detect_with_saved_model.py EXPORT_DIR IMAGE [IMAGE ...]

Needs only tensorflow, av and numpy. EXPORT_DIR is the output of `--mode export` of
`trainers/detection.py`, also on gs://; its highest version is used, as in TF Serving.
Prints the class, score and box (x1, y1, x2, y2 in the pixels of the image) of every
object that has a score of at least 0.5.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from predict_with_saved_model import newest_version, read_asset, reason

MIN_SCORE = 0.5


def load(folder):
    """The network of a version and its class names."""
    network = tf.saved_model.load(folder)
    return network, read_asset(folder, "classes.txt").splitlines()


def detect(network, content):
    """The objects in an image file: class numbers, scores and boxes."""
    found = network.signatures["jpeg"](tf.constant([content]))
    count = int(found["num_detections"][0])
    names = ("detection_classes", "detection_scores", "detection_boxes")
    parts = (found[name][0, :count].numpy().tolist() for name in names)
    return [row for row in zip(*parts, strict=True) if row[1] >= MIN_SCORE]


def main(export_dir, *images):
    sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8
    # Its cost estimates fail for an unknown number of boxes, and say so at length.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    folder = newest_version(export_dir)
    try:
        network, classes = load(folder)
    except Exception as error:  # damaged files raise many kinds
        sys.exit(
            f"error: {folder}: this export cannot be loaded ({reason(error)}). Remove "
            "it and export again: --mode export."
        )
    failed = 0
    for image in images:
        try:
            with tf.io.gfile.GFile(image, "rb") as file:
                found = detect(network, file.read())
        except Exception as error:
            print(f"error: {image}: {reason(error)}", file=sys.stderr)
            failed = 1
            continue
        print(image)
        for label, score, box in found:
            corners = ", ".join(f"{side:.1f}" for side in box)
            print(f"  {classes[int(label)]}  {score:.3f}  [{corners}]")
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
