"""Predicts the class of videos with an exported network, without Keras.

    python examples/predict_with_saved_model.py EXPORT_DIR VIDEO [VIDEO ...]

Needs only tensorflow, av and numpy. EXPORT_DIR is the output of `--mode export`; its
highest version is used, as in TF Serving. One clip is taken from the middle of the
video, so scores differ a little from those of all test views.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import av
import numpy as np
import tensorflow as tf


def read_middle_clip(path, num_frames, temporal_stride):
    """Reads RGB frames (num_frames, H, W, 3) from the middle; repeats short videos."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        decoded = [upright(frame) for frame in container.decode(video=0)]
    if not decoded:
        raise ValueError("no frame could be decoded")
    span = (num_frames - 1) * temporal_stride + 1
    start = max(0, (len(decoded) - span) // 2)
    index = (start + temporal_stride * np.arange(num_frames)) % len(decoded)
    return np.stack([decoded[i] for i in index])


def upright(frame):
    """RGB pixels of a frame, rotated as its metadata say (videos of phones)."""
    pixels = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(pixels, round(frame.rotation / 90))


def main(export_dir, *videos):
    versions = [p.parent for p in pathlib.Path(export_dir).glob("*/saved_model.pb")]
    if not versions:
        sys.exit(f"error: no exported version (1/saved_model.pb) in {export_dir}")
    folder = max(versions, key=lambda path: int(path.name))
    assets = folder / "assets"
    classes = (assets / "classes.txt").read_text(encoding="utf-8").splitlines()
    clip = json.loads((assets / "preprocessing.json").read_text())
    model = tf.saved_model.load(str(folder))  # signatures have only weak references
    network = model.signatures["serving_default"]
    failed = 0
    for video in videos:
        try:
            frames = read_middle_clip(
                video, clip["num_frames"], clip["temporal_stride"]
            )
        except (av.FFmpegError, ValueError) as error:
            print(f"error: {video}: {error}", file=sys.stderr)
            failed = 1
            continue
        scores = network(clips=tf.constant(frames[np.newaxis]))["probabilities"][0]
        print(video)
        for k in np.argsort(-scores.numpy())[:5]:
            print(f"  {classes[k]}  {scores[k]:.3f}")
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
