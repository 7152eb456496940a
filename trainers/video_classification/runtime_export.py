"""Exports a trained network for OpenVINO, ONNX Runtime or LiteRT.

    export_dir/1/network.xml, .onnx or .tflite    from normalised clips to scores
    export_dir/1/PREPROCESSING.md                 how to make such a clip, and a call
    export_dir/1/preprocessing.json               the numbers of that
    export_dir/1/classes.txt, metadata.json, model_card.md, export.json

Resizing and normalising stay outside: the other runtimes lack TensorFlow's antialiased
resize. A version appears after it has been compared with the Keras model.
"""

import copy
import os
import sys
import tempfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainers.core import export, files
from trainers.core.errors import UserError, check_key
from trainers.core.export import ExportError
from trainers.video_classification import model_card, runtimes
from trainers.video_classification.data import normalize
from trainers.video_classification.export import (
    check_num_classes,
    in_float32,
    preprocessing,
)
from trainers.video_classification.scoring import build_network, inference_form

# Largest difference of the output, relative to its largest value if that is above 1.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "int8": np.inf}

_RECIPE = """# A clip for this network

{num_frames} frames of a video, {distance}, as RGB of 0 to 255. Scale each so that its
short side has {short_side} pixels (bilinear, antialiased; round to whole numbers), cut
the central {crop_size} x {crop_size} pixels, then:

```python
import numpy as np
clips = (np.float32(frames) - {mean}) / {std}
clips = np.float32(clips)[None]  # {shape}
```

The call:

```python
{usage}
```

{output} are `(batch, classes)`, in the order of `classes.txt`{activation}.
"""


def export_network(
    task,
    model,
    export_dir,
    runtime: str,
    precision: str | None = None,
    training: Mapping | None = None,
):
    """Writes `model` for another runtime into the next numbered folder.

    Args:
        task: Task the model was trained for.
        model: Keras model from normalised clips to logits, weights loaded.
        export_dir: Folder of versions.
        runtime: `openvino`, `onnx` or `litert`.
        precision: `float32`; of OpenVINO also `bfloat16`, or `int8`: calibrated on
            clips of the validation data, and refused if the accuracy on these falls by
            more than `task.export.max_accuracy_drop`.
        training: See `export_saved_model`.

    Returns:
        The folder of the new version. Its `export.json` has the difference from
        `model` in float32 and, of int8, the accuracies before and after.

    Raises:
        UserError: The runtime is not installed, or has no such precision; the model has
            another number of classes than the task.
        ExportError: The written network disagrees with `model`, or has lost too much
            accuracy. Nothing new is left in `export_dir`.
    """
    about, precision = runtimes.RUNTIMES[runtime], precision or "float32"
    check_key("--precision", precision, about.precisions)
    about.check_installed()
    check_num_classes(model, task.class_names)
    config = task.task_config
    side = config.validation_data.crop_size
    clip_shape = (config.clip.num_frames, side, side, 3)
    shape = (None, None, None, 3) if config.export.dynamic else clip_shape
    network, output = build_network(inference_form(model, "float32"), config)
    network(np.zeros((1, *clip_shape), np.float32), training=False)  # Keras wants it
    with export.next_version(export_dir, last=about.file) as (folder, version):
        if precision == "int8":
            report = _write_int8(task, network, folder, shape)
        else:
            runtimes.write(runtime, network, folder, shape)
            report = {}
        shapes = [(2, *clip_shape)]
        if config.export.dynamic:
            shapes.append(_larger(clip_shape))
        difference = _check(task, model, folder, about, precision, shapes)
        report = {"format": runtime, "precision": precision, **report}
        report["difference"] = difference
        files.write_json(os.path.join(folder, "export.json"), report)
        _write_texts(task, network, folder, runtime, precision, output, shape, training)
    print(
        f"The network for {about.title} differs by {difference:.1e} (of the largest "
        f"of the {output}, if it is above 1) from the Keras model in float32.",
        file=sys.stderr,
    )
    return version


def _larger(clip_shape):
    """A clip of another size: twice the frames, in case of `group_size`; not square."""
    frames, side, _, channels = clip_shape
    return 1, 2 * frames, side + 16, side + 40, channels


def _check(task, model, folder, about, precision, shapes) -> float:
    """Largest difference from the Keras model on clips of noise."""
    network = build_network(in_float32(model), task.task_config)[0]
    run = _loaded(about, folder, precision)
    differences = []
    for shape in shapes:
        clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        clips = normalize(clips, task.task_config.clip, tf.float32).numpy()
        expected = network(clips).numpy()
        largest = max(float(np.abs(expected).max()), 1.0)
        differences.append(float(np.abs(run(clips) - expected).max()) / largest)
    difference = float(np.max(differences))  # NaN if one of them is
    # Written so that a NaN fails too.
    if not difference <= _TOLERANCE[precision]:
        raise ExportError(
            f"The network for {about.title} disagrees with the Keras model: difference "
            f"{difference:.1e}, expected at most {_TOLERANCE[precision]:.0e} in "
            f"{precision}. Nothing was exported. If it is nan, the weights are not "
            "finite: export an earlier checkpoint."
        )
    return difference


def _loaded(about, folder, precision):
    """A function from any number of clips to the network's output."""
    run = about.load(os.path.join(folder, about.file), precision)
    if about.batch is None:
        return run
    return lambda clips: np.concatenate([run(clip[None]) for clip in clips])


# === int8 ===


def _write_int8(task, network, folder, shape) -> dict:
    """Writes the network in int8; returns the accuracies, for the report."""
    about, settings = runtimes.RUNTIMES["openvino"], task.task_config.export
    with tempfile.TemporaryDirectory() as scratch:
        source = runtimes.write("openvino", network, scratch, shape)
        clips = _calibration_clips(task, settings.calibration_clips)
        target = os.path.join(folder, about.file)
        runtimes.quantize_openvino(source, target, clips)
        networks = {
            "float32": about.load(source, "float32"),
            "int8": about.load(target, "int8"),
        }
        accuracy, count = _accuracies(task, networks)
    drop = accuracy["float32"] - accuracy["int8"]
    if not drop <= settings.max_accuracy_drop:
        raise ExportError(
            f"In int8 the accuracy on {count} validation clips falls from "
            f"{accuracy['float32']:.4f} to {accuracy['int8']:.4f}, by more than "
            f"task.export.max_accuracy_drop={settings.max_accuracy_drop}. Nothing was "
            "exported. Calibrate with more clips (task.export.calibration_clips), or "
            "export with --precision bfloat16."
        )
    print(
        f"Accuracy on {count} validation clips: {accuracy['float32']:.4f} in float32, "
        f"{accuracy['int8']:.4f} in int8.",
        file=sys.stderr,
    )
    about = {"accuracy": accuracy, "validation_clips": count}
    return about | {"calibration_clips": len(clips)}


def _batches(task):
    """One clip of each validation video, normalised, with labels and weights."""
    data = copy.deepcopy(task.task_config.validation_data)
    data.set_test_protocol("one_view")
    for batch in task.build_inputs(data):
        clips = normalize(batch["clip"], task.task_config.clip, tf.float32)
        yield clips.numpy(), batch["label"].numpy(), batch["weight"].numpy()
    task.check_inputs()


def _calibration_clips(task, count) -> list:
    clips = []
    for batch, _, weights in _batches(task):
        clips += [clip[None] for clip in batch[weights > 0]]
        if len(clips) >= count:
            break
    if not clips:
        raise UserError(
            "task.validation_data has no clips: --precision int8 is calibrated on them."
        )
    return clips[:count]


def _accuracies(task, networks) -> tuple[dict, int]:
    """Accuracy of each network, and the number of clips."""
    hits, count = dict.fromkeys(networks, 0.0), 0
    for clips, labels, weights in _batches(task):
        kept = weights > 0
        count += int(kept.sum())
        for name, run in networks.items():
            hits[name] += float(_hits(run(clips), labels)[kept].sum())
    return {name: value / count for name, value in hits.items()}, count


def _hits(outputs, labels):
    """1 where the best class is the label; of several labels, the part that is right.

    With several labels, the output are logits: a class is found if it is above 0.
    """
    if labels.ndim == 1:
        return outputs.argmax(-1) == labels
    return ((outputs > 0) == (labels > 0.5)).mean(-1)


# === Texts ===


def _write_texts(
    task, network, folder, runtime, precision, output, clip_shape, training
):
    clip, data = task.task_config.clip, task.task_config.validation_data
    about = preprocessing(clip, data)
    batch = None if None in clip_shape else runtimes.RUNTIMES[runtime].batch
    shape = [batch, *clip_shape]
    about["input"] = {"name": "clips", "dtype": "float32", "shape": shape}
    about["output"] = output
    metadata = model_card.metadata(network, task, about, training or {}, None)
    metadata |= {"format": runtime, "precision": precision}
    texts = {
        "classes.txt": export.class_text(task.class_names),
        "preprocessing.json": files.to_json(about) + "\n",
        "metadata.json": files.to_json(metadata) + "\n",
        "model_card.md": model_card.text(metadata),
        "PREPROCESSING.md": _recipe(about, runtime, precision),
    }
    for name, text in texts.items():
        files.write_text(os.path.join(folder, name), text)


def _recipe(about, runtime, precision) -> str:
    stride, fps, output = about["temporal_stride"], about["fps"], about["output"]
    hint = "bf16" if precision == "bfloat16" else "f32"
    shape = ["any number" if n is None else n for n in about["input"]["shape"]]
    of_logits = f"; their {about['activation']} is the probability"
    return _RECIPE.format(
        **about
        | {
            "output": output.capitalize(),
            "activation": of_logits if output == "logits" else "",
        },
        distance=f"{stride} apart" if stride else f"{fps} a second",
        shape=" x ".join(map(str, shape)),
        usage=runtimes.RUNTIMES[runtime].usage.format(output=output, hint=hint),
    )
