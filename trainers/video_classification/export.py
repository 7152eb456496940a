"""Exports a trained network as a SavedModel that TF Serving can load.

Versions are laid out as in `trainers/core/export.py`, with these assets:

    assets/classes.txt            one class name per line
    assets/preprocessing.json     how to cut a clip from a video

Batch normalisation is folded into the convolutions, which TensorFlow then fuses with
biases, ReLUs and sums. The precision is that of `task.export`; logits and
probabilities are always float32.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from trainers.core import export, files
from trainers.core.errors import UserError
from trainers.core.export import ExportError
from trainers.video_classification import request_limits, serving
from trainers.video_classification.data import normalize, resize_and_center_crop
from trainers.video_classification.scoring import build_scorer, inference_form

# Largest difference of logits from those of the Keras model in float32, relative to
# the largest logit, or absolute if all are below 1: rounding errors only.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


def export_saved_model(task, model, export_dir):
    """Writes `model` into the next numbered folder of `export_dir`.

    Args:
        task: Task the model was trained for: its clips, test data and classes.
        model: Keras model from normalised clips to logits, weights loaded.
        export_dir: Folder of versions, local or on a file system of TensorFlow's;
            created if it does not exist.

    Returns:
        The folder of the new version. Its `assets.extra/export.json` has, for each
        signature, the largest difference of logits from those of `model` in float32,
        relative to the largest logit, or absolute if all are below 1.

    Raises:
        UserError: The model has another number of classes than the task; its
            weights as constants are too large; `export_dir` is a file.
        FileError: `export_dir` cannot be written to.
        ExportError: The written network disagrees with `model`. After any of these,
            nothing new is left in `export_dir`.
    """
    _check_num_classes(model, task.class_names)
    precision = task.task_config.export.precision or model.compute_dtype
    network = inference_form(model, precision)
    with export.next_version(export_dir) as (folder, version):
        _write(task, network, folder)
        differences = _check(task, model, folder, precision)
        config = task.task_config
        clips = _example_clips(config.clip, config.validation_data)[:1]
        report = _report(task, precision, differences)
        export.write_extra(folder, report, {"clips": clips})
    print(
        f"The exported network computes in {precision}; its logits differ by "
        f"{max(differences.values()):.1e} (of the largest one, if it is above 1) from "
        "those of the Keras model in float32.",
        file=sys.stderr,
    )
    return version


def preprocessing(clip, data):
    """What a client needs to cut a clip from a video, as a dict for JSON."""
    return {
        "color": "RGB",
        "num_frames": clip.num_frames,
        "temporal_stride": clip.temporal_stride,
        "fps": clip.fps,
        "short_side": data.min_short_side,
        "crop_size": data.crop_size,
        "mean": [float(value) for value in clip.mean],
        "std": [float(value) for value in clip.std],
        "activation": "sigmoid" if data.is_multilabel else "softmax",
    }


def _check_num_classes(model, class_names):
    num_classes = model.output_shape[-1]
    if num_classes != len(class_names):
        raise UserError(
            f"The model has {num_classes} logits but the class list has "
            f"{len(class_names)} names. Export with the class list that the model "
            "was trained with (`classes.txt` in its model directory)."
        )


def _write(task, model, folder):
    clip, data = task.task_config.clip, task.task_config.validation_data
    constants = task.task_config.export.constants
    module = serving.ServingModule(model, task.task_config, constants)
    signatures = {"serving_default": module.clips, "jpeg": module.jpeg}
    texts = {
        "classes.txt": export.class_text(task.class_names),
        "preprocessing.json": files.to_json(preprocessing(clip, data)) + "\n",
    }
    export.save(module, signatures, texts, folder)


def _example_clips(clip, data):
    """Two clips of noise, wider than high and larger than the crop."""
    side = max(data.min_short_side, data.crop_size)
    shape = (2, clip.num_frames, side + 8, side + 40, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _check(task, model, folder, precision):
    """Largest relative difference of each signature from the Keras model."""
    clip, data = task.task_config.clip, task.task_config.validation_data
    score = build_scorer(_in_float32(model), task.task_config)

    def expected(clips):
        crops = resize_and_center_crop(clips, data.min_short_side, data.crop_size)
        return score(normalize(crops, clip, tf.float32))[0]

    loaded = tf.saved_model.load(folder)
    clips = _example_clips(clip, data)
    frames = tf.stack([[tf.io.encode_jpeg(f) for f in clip] for clip in clips])
    decoded = tf.stack([[tf.io.decode_jpeg(f) for f in clip] for clip in frames])
    differences = {}
    for name, inputs, reference in (
        ("serving_default", {"clips": tf.constant(clips)}, expected(clips)),
        ("jpeg", {"frames": frames}, expected(decoded)),
    ):
        outputs = _call(loaded.signatures[name], inputs)
        differences[name] = _difference(outputs["logits"], reference)
        _check_difference(differences[name], name, precision)
    return differences


def _call(signature, inputs):
    try:
        return signature(**inputs)
    except tf.errors.InvalidArgumentError as error:
        raise ExportError(
            "The exported network would refuse two clips of task.clip.num_frames "
            f"frames: {request_limits.reason(error)} Raise this limit."
        ) from error


def _in_float32(model):
    """`model` itself, or a copy without mixed precision."""
    if model.compute_dtype == "float32":
        return model

    def clone(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    same = keras.models.clone_model(model, clone_function=clone)
    same.set_weights(model.get_weights())
    return same


def _difference(logits, expected):
    """Largest difference, relative to the largest logit if that is above 1.

    Logits near 0 are sums of larger terms that cancel, but whose rounding errors
    remain; and probabilities depend on absolute differences.
    """
    logits, expected = np.float32(logits), np.float32(expected)
    return float(np.abs(logits - expected).max() / max(np.abs(expected).max(), 1.0))


def _check_difference(difference, signature, dtype):
    tolerance = _TOLERANCE[dtype]
    # Written so that a NaN fails too.
    if not difference <= tolerance:
        raise ExportError(
            f"Signature `{signature}` of the exported network disagrees with the "
            f"Keras model: difference of logits {difference:.1e}, expected "
            f"at most {tolerance:.0e} in {dtype}. Nothing was exported. If the "
            "difference is nan, the weights are not finite: export an earlier "
            "checkpoint. If the precision is too low for this network, set "
            "task.export.precision=float32."
        )


def _report(task, precision, differences):
    return {
        "precision": precision,
        "constants": task.task_config.export.constants,
        "limits": task.task_config.export.limits,
        "logit_difference": differences,
    }
