"""Initialises the network of a training from `task.init_checkpoint`."""

import json
from collections.abc import Mapping

import keras
import numpy as np

from keras_nonlocal.convert import CheckpointError, Pixels, Spelling, load_weights
from keras_nonlocal.layers import BaseNonLocal
from trainers.core import checkpoints, init_checkpoint
from trainers.core.classes import describe_changes
from trainers.core.errors import UserError
from trainers.core.experiments import PARAMS_FILE
from trainers.core.yaml_io import read_yaml

_PIXEL_TOLERANCE = 0.05  # of 255: sources round their statistics


def _in_yaml(value):
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


# How arguments of `load_weights` and of the network are set here.
KEYS = Spelling(
    "task.model.{argument}={value}",
    write=_in_yaml,
    special={
        "model": "task.model.name={value}",
        "num_classes": "{value} classes",
        "skip_classifier": "task.init_checkpoint_modules=backbone",
        "source": "task.init_checkpoint_source={value}",
        "strict": None,
    },
    verb="Set",
)


def initialize_from_checkpoint(model, config, class_names) -> str:
    """Loads `init_checkpoint`; returns what to log about it.

    Args:
        model: Of the task. If the weights are for BGR, conv1 is flipped to RGB.
        config: `VideoClassificationConfig`.
        class_names: In label order; compared with those in a model directory.

    Raises:
        UserError: It cannot be read, or does not fit; its weights were trained on
            other pixels, and `init_checkpoint_pixels` is not `any`; a new block is
            not an identity. Names the key of the config to change.
    """
    path = config.init_checkpoint
    content, trained_as, trained_classes = _find_content(path, config.model)
    changed = _class_changes(trained_classes, class_names)
    try:
        report = load_weights(
            model,
            content,
            source=config.init_checkpoint_source,
            skip_classifier=config.init_checkpoint_modules == "backbone",
        )
    except CheckpointError as error:
        where = "" if isinstance(content, str) else f"{path}: "
        message = f"task.init_checkpoint: {where}{error.describe(KEYS)}"
        raise UserError(
            f"{message}\nNote: {changed}." if changed else message
        ) from error
    pixels = report.pixels or _pixels_of_training(path, trained_as)
    remarks = _adapt_pixels(model, pixels, config, report.source) if pixels else []
    _check_identities(model, report.new_blocks, config)
    lines = [f"Starting from {path}", report.describe(KEYS), *remarks]
    if changed and config.init_checkpoint_modules == "all":
        lines.append(f"! {changed}, and its classifier is kept")
    if report.new_blocks:
        names = ", ".join(report.new_blocks)
        lines.append(f"New, and checked to change nothing: {names}")
    return "\n".join(lines)


def _class_changes(old, new) -> str:
    """What to say about classes in a model directory; nothing if they are the same."""
    if not old or tuple(old) == tuple(new):
        return ""
    return f"its classes were others ({describe_changes(old, new)})"


def freeze_layers(model, config):
    """Keeps `freeze_backbone` and `freeze_batch_norm` from being trained."""
    for layer in model.layers:
        if isinstance(layer, BaseNonLocal) or layer.name == "pred":
            continue
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        if config.freeze_backbone or (config.freeze_batch_norm and is_norm):
            layer.trainable = False


# === Where the weights are ===


def _find_content(path: str, model):
    """`(content, trained_as, trained_classes)`: a file, or the weights of a checkpoint.

    The others are the task's config and the classes in the checkpoint's model
    directory; empty without one.
    """
    prefix = init_checkpoint.find_prefix(path)
    if prefix is None:
        return path, {}, ()
    trained_as = _read_trained_as(prefix, model)
    classes = init_checkpoint.read_classes(prefix)
    return checkpoints.read_model(prefix), trained_as, classes


def _read_trained_as(prefix: str, model) -> dict:
    """The task's config in a model directory; an error if it computes otherwise."""
    path = init_checkpoint.find_beside(prefix, PARAMS_FILE)
    task = _read_task(path) if path else {}
    theirs, ours = task.get("model") or {}, model.as_dict()
    keys = ["convention", "stride_in_1x1"]
    keys += ["non_local_options"] if theirs.get("non_local") and model.non_local else []
    for key in keys:
        if theirs.get(key, ours[key]) != ours[key]:
            raise UserError(
                f"task.model.{key} is {ours[key]!r}, but the network of "
                f"task.init_checkpoint was trained with {theirs[key]!r} ({path}), and "
                f"computes otherwise: set task.model.{key}={theirs[key]!r}."
            )
    return task


def _read_task(path: str) -> dict:
    saved = read_yaml(path)
    if not saved:
        raise UserError(
            f"task.init_checkpoint: {path} is empty, so that its network and pixels "
            "cannot be compared with those here. Bring it back, or remove it to go "
            "without."
        )
    return saved.get("task") or {}


# === Pixels: those of the weights and those of the clips ===


def _pixels_of_training(path: str, trained_as):
    """Those of the clips in the config of a model directory, or None."""
    clip = trained_as.get("clip") or {}
    if not (clip.get("mean") and clip.get("std")):
        return None
    try:
        return Pixels("RGB", clip["mean"], clip["std"])
    except ValueError as error:
        raise UserError(
            f"task.init_checkpoint: {path} was trained on pixels of {error}. Expected "
            "three numbers: the config beside it is damaged."
        ) from error


def _adapt_pixels(model, pixels, config, source: str) -> list[str]:
    """Makes a loaded network one for the clips here, which are RGB; lines to log."""
    needed, lines = {"mean": pixels.mean, "std": pixels.std}, []
    if pixels.color == "BGR":
        kernel = model.get_layer("conv1").kernel
        kernel.assign(keras.ops.flip(kernel, axis=-2))
        needed = {key: value[::-1] for key, value in needed.items()}
        lines = ["conv1 flipped from BGR to RGB"]
    clip = {"mean": config.clip.mean, "std": config.clip.std}
    near = {"rtol": 0, "atol": _PIXEL_TOLERANCE}
    if all(np.allclose(clip[x], needed[x], **near) for x in needed):
        return lines
    theirs = " and ".join(f"task.clip.{x}={_listed(y)}" for x, y in needed.items())
    ours = ", ".join(f"{x}={_listed(y)}" for x, y in clip.items())
    message = (
        f"the weights of task.init_checkpoint ({source}) were trained on pixels "
        f"normalised differently from task.clip ({ours})"
    )
    if config.init_checkpoint_pixels == "any":
        return [*lines, f"! {message}; theirs are {theirs}"]
    raise UserError(
        f"{message[0].upper()}{message[1:]}. Set {theirs}; to fine-tune with others "
        "all the same, task.init_checkpoint_pixels=any."
    )


def _listed(values) -> str:
    """As an override on the command line, where a space would end it."""
    return f"[{','.join(f'{x:g}' for x in values)}]"


# === New non-local blocks ===


def _check_identities(model, blocks, config):
    """Raises unless what enters a block leaves it, to the bit, and so the logits."""
    if not blocks:
        return
    layers = [model.get_layer(block) for block in blocks]
    ends = [end for layer in layers for end in (layer.input, layer.output)]
    side = config.train_data.crop_size
    shape = (1, config.clip.num_frames, side, side, 3)
    noise = np.random.default_rng(0).normal(size=shape).astype("float32")
    values = [np.asarray(x) for x in keras.Model(model.input, ends)(noise)]
    for block, x, y in zip(blocks, values[::2], values[1::2], strict=True):
        if not np.array_equal(x, y, equal_nan=True):
            raise UserError(
                f"The new block {block} changes what the network of "
                "task.init_checkpoint computes: it must start as an identity. Leave "
                "the initialisation of its last layer, in "
                "task.model.non_local_options, as it is."
            )
