"""Detects the objects in images, and in videos frame by frame.

A file that cannot be read does not end the run.
"""

import io
import os
import sys

import numpy as np
from PIL import Image
from pycocotools import mask

from trainers.core import files
from trainers.core.errors import DataError
from trainers.detection.data import IMAGE_SUFFIXES, read_image
from trainers.detection.drawing import draw_detections
from trainers.video_classification.data.decoding import open_video
from trainers.video_classification.data.paths import has_video_suffix


def run(task, model, options) -> int:
    """Prints detections as a table, image by image, or as one JSON document.

    Args:
        task: Task the model was trained for.
        model: `MaskRCNN` or `KeypointRCNN`, weights loaded.
        options: `modes.Options`: `paths` of images, videos and folders, which are
            searched recursively; `min_score`; `output_dir` for pictures; `as_json`.

    Returns:
        Exit code: 0, or 1 if any file could not be read. Its error is printed to
        stderr, and is in the JSON document.
    """
    results = []
    for result in predict(task, model, options):
        results.append(result)
        if "error" in result:
            error = f"error: {result['path']}: {result['error']}"
            print(files.printable(error), file=sys.stderr)
        elif not options.as_json:
            print(_table(result), flush=True)
    if options.as_json:
        print(files.to_json(results))  # in ASCII: any file name survives
    return int(any("error" in result for result in results))


def predict(task, model, options):
    """Yields a dict for each image and frame, in order.

    It has `path`, of frames `frame` (from 0), and `detections`: dicts by falling score
    of `class`, `label`, `score`, `box` (x1, y1, x2, y2 in pixels), and `mask` (COCO's
    RLE) or `keypoints` (x, y, visibility). Of a file that cannot be read it has
    `path` and `error`.
    """
    limits, names = task.task_config.validation_data.limits, set()
    for path in _find_files(options.paths):
        stem, _ = os.path.splitext(os.path.basename(path.rstrip("/")))
        name = _unused(stem, names)
        try:
            for where, pixels in _images(path, limits):
                [found] = model.detect([pixels])
                found = _above(found, options.min_score)
                if options.output_dir:
                    _draw(task, pixels, found, options, name, where)
                detections = _described(found, task.class_names)
                yield {"path": path, **where, "detections": detections}
        except DataError as error:
            yield {"path": path, "error": _reason(error, path)}


def _find_files(paths):
    """The images and videos among paths and in folders, which have at least one."""
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            yield path
            continue
        found = sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if _is_image(name) or has_video_suffix(name)
        )
        yield from found or [path]


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def _images(path: str, limits):
    """`(where, pixels)` of an image, or of each frame of a video."""
    if os.path.isdir(path):
        raise DataError(f"{path}: this folder holds no images and no videos.")
    if not has_video_suffix(path) or _is_image(path):
        yield {}, _read(path, limits)
        return
    video = open_video(path, "pyav")
    for number, picture in video.pictures(np.arange(video.num_frames)):
        yield {"frame": int(number)}, np.ascontiguousarray(picture.rgb())


def _read(path: str, limits):
    try:
        return read_image(path, limits)
    except files.FileError as error:
        raise DataError(f"{path}: {error.reason}") from error


def _reason(error: DataError, path: str) -> str:
    return str(error).removeprefix(f"{files.printable(path)}: ")


def _above(found, least: float):
    kept = found["scores"] >= least
    return {name: values[kept] for name, values in found.items()}


def _described(found, class_names) -> list[dict]:
    rows = []
    for i, label in enumerate(found["labels"]):
        row = {
            "class": class_names[label],
            "label": int(label),
            "score": float(found["scores"][i]),
            "box": [float(value) for value in found["boxes"][i]],
        }
        if "masks" in found:
            rle = mask.encode(np.asfortranarray(found["masks"][i], np.uint8))
            counts = rle["counts"].decode()
            row["mask"] = {"size": [int(n) for n in rle["size"]], "counts": counts}
        if "keypoints" in found:
            row["keypoints"] = found["keypoints"][i].tolist()
        rows.append(row)
    return rows


def _table(result) -> str:
    title = result["path"]
    if "frame" in result:
        title += f", frame {result['frame']}"
    rows = result["detections"]
    width = max((len(row["class"]) for row in rows), default=0)
    lines = [
        f"  {row['class']:<{width}}  {row['score']:.3f}  "
        + " ".join(f"{value:.1f}" for value in row["box"])
        for row in rows
    ]
    return "\n".join(map(files.printable, [title, *(lines or ["  nothing"])]))


# === Pictures ===


def _draw(task, pixels, found, options, name: str, where) -> None:
    """Writes `OUTPUT_DIR/name.jpg`, of a frame `OUTPUT_DIR/name/00000.jpg`."""
    skeleton = np.reshape(task.task_config.model.skeleton, (-1, 2)).astype(int)
    drawn = draw_detections(
        pixels, found, task.class_names, skeleton, min_score=options.min_score
    )
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "JPEG", quality=92)
    parts = (name, f"{where['frame']:05d}.jpg") if where else (f"{name}.jpg",)
    path = files.join(options.output_dir, *parts)
    files.write_bytes(path, file.getvalue(), durable=False)


def _unused(name: str, names: set[str]) -> str:
    """A name that no other file of the run has: `image`, `image_2`, ..."""
    number, unused = 1, name
    while unused in names:
        number += 1
        unused = f"{name}_{number}"
    names.add(unused)
    return unused
