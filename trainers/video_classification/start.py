"""What training starts from: weights from anywhere, and which of them stay."""

import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.layers.base_non_local import BaseNonLocal
from trainers.core import checkpoints
from trainers.core.config import PARAMS_FILE
from trainers.core.errors import UserError
from trainers.core.yaml_io import read_yaml

# Keras's ResNets take blue, green, red; without a scale.
_KERAS_MEAN, _KERAS_STD = (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)

# Arguments that errors of `load_weights` advise, and their keys in the config.
_KEYS = {
    r"\bskip_head=True": "task.init_checkpoint_modules=backbone",
    r"\bsource=": "task.init_checkpoint_source=",
    r"\b(convention|depth|stem|non_local|non_local_options|stride_in_1x1)=": (
        r"task.model.\1="
    ),
    r"`(width|convention|non_local_options|stride_in_1x1)`": r"task.model.\1",
    r"\n?strict=False loads what fits all the same\.": "",
}


def start(model, config) -> str:
    """Loads `init_checkpoint`; gives what to tell of it.

    Args:
        model: Of the task.
        config: `VideoClassificationConfig`.

    Raises:
        UserError: It cannot be read, or does not fit; names the key of the config
            to change.
    """
    path = config.init_checkpoint
    report = _load(model, path, config)
    if report.source == "keras_applications":
        _take_rgb(model, config.clip)
    blocks = _blocks(report.new)
    _check_identities(model, blocks, _clip_shape(config))
    lines = [f"Starting from {path}", str(report)]
    if blocks:
        lines.append(f"New, and checked to change nothing: {', '.join(blocks)}")
    return "\n".join(lines)


def freeze(model, config):
    """Keeps `freeze_backbone` and `freeze_batch_norm` from being trained."""
    for layer in model.layers:
        if isinstance(layer, BaseNonLocal) or layer.name == "pred":
            continue
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        if config.freeze_backbone or (config.freeze_batch_norm and is_norm):
            layer.trainable = False


# === Weights ===


def _load(model, path, config):
    try:
        return load_weights(
            model,
            _content(path, config.model),
            source=config.init_checkpoint_source,
            skip_head=config.init_checkpoint_modules == "backbone",
        )
    except CheckpointError as error:
        message = str(error)
        for pattern, key in _KEYS.items():
            message = re.sub(pattern, key, message)
        prefix = "" if path in message else f"{path}: "
        raise UserError(f"task.init_checkpoint: {prefix}{message}") from error


def _content(path: str, model):
    """A file as it is; of our own checkpoints, which may be remote, the weights."""
    if tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path):
        return path
    prefix = checkpoints.find(path)
    _check_trained_as(prefix, model)
    return checkpoints.read_model(prefix)


def _check_trained_as(prefix: str, model):
    """Raises if the config in its model directory says that it computes otherwise."""
    folder = pathlib.Path(prefix).parent  # that of the best is within it
    for path in (folder / PARAMS_FILE, folder.parent / PARAMS_FILE):
        if path.is_file():
            task = read_yaml(path).get("task") or {}
            _check_same(task.get("model") or {}, model, path)
            return


def _check_same(theirs, model, path):
    keys = ["convention", "stride_in_1x1"]
    keys += ["non_local_options"] if theirs.get("non_local") and model.non_local else []
    for key in keys:
        ours = model.as_dict()[key]
        if theirs.get(key, ours) != ours:
            raise UserError(
                f"task.model.{key} is {ours!r}, but the network of "
                f"task.init_checkpoint was trained with {theirs[key]!r} ({path}), and "
                f"computes otherwise: set task.model.{key}={theirs[key]!r}."
            )


def _take_rgb(model, clip):
    """Turns the channels of conv1 round: clips here are red, green, blue."""
    if (tuple(clip.mean), tuple(clip.std)) != (_KERAS_MEAN, _KERAS_STD):
        raise UserError(
            "task.init_checkpoint is a network of keras.applications, which takes "
            "pixels minus their mean, unscaled. Set task.clip.mean="
            f"{list(_KERAS_MEAN)} and task.clip.std={list(_KERAS_STD)}."
        )
    kernel = model.get_layer("conv1").kernel
    kernel.assign(keras.ops.flip(kernel, axis=-2))


# === New non-local blocks ===


def _blocks(paths) -> list[str]:
    """The non-local blocks among the layers of some weights, in order."""
    return list(dict.fromkeys(x.split("/")[0] for x in paths if "_nonlocal/" in x))


def _clip_shape(config):
    side = config.train_data.crop_size
    return (1, config.clip.num_frames, side, side, 3)


def _check_identities(model, blocks, shape):
    """Raises unless what enters a block leaves it, to the bit, and so the logits."""
    if not blocks:
        return
    layers = [model.get_layer(block) for block in blocks]
    ends = [end for layer in layers for end in (layer.input, layer.output)]
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
