"""Exports a trained network as a SavedModel that TF Serving can load.

Versions are laid out as in `trainers/core/export.py`, with these assets:

    assets/classes.txt            one class name per line
    assets/preprocessing.json     how to cut a clip from a video
    assets/metadata.json          where the network comes from, and all of the above
    assets/model_card.md          the same for people

Batch normalisation is folded into the convolutions, which TensorFlow then fuses with
biases, ReLUs and sums. The precision is that of `task.export`; logits and
probabilities are always float32.
"""

import sys
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.visualize import attention_maps
from trainers.core import export, files
from trainers.core.errors import UserError
from trainers.core.export import ExportError
from trainers.video_classification import model_card, request_limits, serving
from trainers.video_classification.data import normalize, resize_and_center_crop
from trainers.video_classification.scoring import build_scorer, inference_form

# Largest difference of logits from those of the Keras model in float32, relative to
# the largest logit, or absolute if all are below 1: rounding errors only.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
# Of attention in float32, relative to the largest weight: a softmax amplifies rounding.
_ATTENTION_TOLERANCE = 1e-2


def export_saved_model(task, model, export_dir, training: Mapping | None = None):
    """Writes `model` into the next numbered folder of `export_dir`.

    Args:
        task: Task the model was trained for: its clips, test data and classes.
        model: Keras model from normalised clips to logits, weights loaded.
        export_dir: Folder of versions, local or on a file system of TensorFlow's;
            created if it does not exist.
        training: What `trainers.core.provenance.describe` says of the training, for
            `metadata.json` and the model card.

    Returns:
        The folder of the new version. Its `assets.extra/export.json` has the largest
        differences from `model` in float32, relative to the largest value: of the
        logits and features, or absolute if all are below 1, and of the attention.

    Raises:
        UserError: The model has another number of classes than the task; its
            weights as constants are too large; `export_dir` is a file.
        FileError: `export_dir` cannot be written to.
        ExportError: The written network disagrees with `model`. After any of these,
            nothing new is left in `export_dir`.
    """
    check_num_classes(model, task.class_names)
    precision = task.task_config.export.precision or model.compute_dtype
    network = inference_form(model, precision)
    with export.next_version(export_dir) as (folder, version):
        requests = _write(task, network, folder, training or {})
        export.write_warmup(folder, requests)
        loaded = tf.saved_model.load(folder)
        differences = _check(task, model, loaded, precision)
        export.replay_warmup(folder, loaded)
        export.write_report(folder, _report(task, precision, differences))
    largest = max(differences["logit_difference"].values())
    print(
        f"The exported network computes in {precision}; its logits differ by "
        f"{largest:.1e} (of the largest one, if it is above 1) from "
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


def check_num_classes(model, class_names):
    """Raises `UserError` unless the model has an output for each class."""
    num_classes = model.output_shape[-1]
    if num_classes != len(class_names):
        raise UserError(
            f"The model has {num_classes} logits but the class list has "
            f"{len(class_names)} names. Export with the class list that the model "
            "was trained with (`classes.txt` in its model directory)."
        )


def _write(task, model, folder, training) -> dict:
    """Writes the network; returns an example request for each signature."""
    config = task.task_config
    clip, data = config.clip, config.validation_data
    names, constants = task.class_names, config.export.constants
    module = serving.ServingModule(model, config, names, constants)
    about = preprocessing(clip, data)
    metadata = model_card.metadata(model, task, about, training, module.signatures)
    texts = {
        "classes.txt": export.class_text(names),
        "preprocessing.json": files.to_json(about) + "\n",
        "metadata.json": files.to_json(metadata) + "\n",
        "model_card.md": model_card.text(metadata),
    }
    export.save(module, module.signatures, texts, folder)
    clips = _example_clips(clip, data)[:1]
    inputs = {"clips": clips, "frames": _encoded(clips), "positions": _centre(clips)}
    return {
        name: {key: inputs[key] for key in _inputs_of(function)}
        for name, function in module.signatures.items()
    }


def _inputs_of(function) -> list[str]:
    return [spec.name for spec in function.input_signature]


def _encoded(clips):
    return [[tf.io.encode_jpeg(frame).numpy() for frame in clip] for clip in clips]


def _centre(clips):
    return np.float32([[(size - 1) / 2 for size in clips.shape[1:4]]])


def _example_clips(clip, data):
    """Two clips of noise, wider than high and larger than the crop."""
    side = max(data.min_short_side, data.crop_size)
    shape = (2, clip.num_frames, side + 8, side + 40, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _check(task, model, loaded, precision) -> dict:
    """Largest relative differences of each signature from the Keras model."""
    config, model = task.task_config, in_float32(model)
    data = config.validation_data
    score = build_scorer(model, config, with_features=True)

    def normalized(clips):
        crops = resize_and_center_crop(clips, data.min_short_side, data.crop_size)
        return normalize(crops, config.clip, tf.float32)

    clips = _example_clips(config.clip, data)
    frames = _encoded(clips)
    decoded = np.stack([[tf.io.decode_jpeg(f) for f in clip] for clip in frames])
    logits, _, features = score(normalized(clips))
    differences = {}
    for name, inputs, output, expected in (
        ("serving_default", {"clips": clips}, "logits", logits),
        ("jpeg", {"frames": frames}, "logits", score(normalized(decoded))[0]),
        ("features", {"clips": clips}, "features", features),
    ):
        outputs = _call(loaded.signatures[name], inputs)
        difference = _difference(outputs[output], expected)
        _check_difference(difference, name, precision)
        differences.setdefault(f"{output[:-1]}_difference", {})[name] = difference
    if "attention" in loaded.signatures:
        found = _check_attention(model, normalized(clips), loaded, clips, precision)
        differences["attention_difference"] = found
    return differences


def _check_attention(model, normalized, loaded, clips, precision) -> dict:
    """Largest difference of each block's weights, relative to the largest weight."""
    inputs = {"clips": clips, "positions": _centre(clips)}
    outputs = _call(loaded.signatures["attention"], inputs)
    centre = [_centre(normalized)[0]]
    differences = {}
    for name in (name for name in outputs if f"{name}_keys" in outputs):
        maps = attention_maps(model, normalized, name, centre)
        expected, weights = np.sort(maps.scores), np.sort(outputs[name])
        # Keys that `scope` or `group_size` exclude are left out in the export.
        expected = expected[..., expected.shape[-1] - weights.shape[-1] :]
        largest = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
        differences[name] = float(np.abs(weights - expected).max() / largest)
        if precision == "float32" and not differences[name] <= _ATTENTION_TOLERANCE:
            raise ExportError(
                f"Signature `attention` of the exported network disagrees with the "
                f"Keras model: difference {differences[name]:.1e} in block {name}, "
                f"expected at most {_ATTENTION_TOLERANCE:.0e}. Nothing was exported."
            )
    return differences


def _call(signature, inputs):
    try:
        return signature(**{key: tf.constant(x) for key, x in inputs.items()})
    except tf.errors.InvalidArgumentError as error:
        raise ExportError(
            "The exported network would refuse two clips of task.clip.num_frames "
            f"frames: {request_limits.reason(error)} Raise this limit."
        ) from error


def in_float32(model):
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
    kind = "features" if signature == "features" else "logits"
    # Written so that a NaN fails too.
    if not difference <= tolerance:
        raise ExportError(
            f"Signature `{signature}` of the exported network disagrees with the "
            f"Keras model: difference of {kind} {difference:.1e}, expected "
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
        **differences,
    }
