"""What training starts from: weights from anywhere, and which of them stay."""

import os
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.layers import BaseNonLocal
from trainers.core import checkpoints
from trainers.core.errors import UserError
from trainers.core.yaml_io import read_yaml
from trainers.video_classification.start_pixels import adapt_pixels, params_of

# Of files that hold weights, for advice: what they hold is found by content.
_SUFFIXES = (".keras", ".h5", ".pth", ".pyth", ".pt", ".pkl", ".safetensors")

# Arguments that errors of `load_weights` advise, and their keys in the config. An
# argument follows a space or a bracket; names within quotes are left alone.
_KEYS = {
    r"(?<![^\s(])skip_head=True": "task.init_checkpoint_modules=backbone",
    r"(?<![^\s(])source=": "task.init_checkpoint_source=",
    r"(?<![^\s(])"
    r"(convention|depth|stem|non_local|non_local_options|stride_in_1x1)=": (
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
    remarks = adapt_pixels(model, config, report.source)
    blocks = _blocks(report.new)
    _check_identities(model, blocks, _clip_shape(config))
    lines = [f"Starting from {path}", str(report), *remarks]
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
        message = _in_keys(str(error), path)
        raise UserError(f"task.init_checkpoint: {message}") from error


def _in_keys(message: str, path: str) -> str:
    """What an error advises, as keys of the config; names the file, untouched."""
    named = {path, repr(path)[1:-1], str(pathlib.Path(path))}
    any_name = "|".join(map(re.escape, sorted(named, key=len, reverse=True)))
    parts = re.split(rf"(?<![\w/.])({any_name})(?![\w/=])", message)
    for index in range(0, len(parts), 2):  # between them are the paths
        for pattern, key in _KEYS.items():
            parts[index] = re.sub(pattern, key, parts[index])
    return "".join(parts if len(parts) > 1 else [f"{path}: ", *parts])


def _content(path: str, model):
    """A file as it is; of our own checkpoints, which may be remote, the weights."""
    try:
        is_folder = tf.io.gfile.isdir(path)
        is_file = tf.io.gfile.exists(path) and not is_folder
    except tf.errors.OpError as error:
        raise UserError(
            f"task.init_checkpoint: cannot look for {path}: {error.message}"
        ) from error
    if is_file and "://" in path:
        raise UserError(
            f"task.init_checkpoint is {path}, a file that is not on this machine. "
            "Of remote checkpoints those of tf.train alone can be read, by their "
            "path without `.index`, or a model directory: copy the file to this "
            "machine, and give its path here."
        )
    if is_file:
        return path
    prefix = _find(path, tf.io.gfile.listdir(path) if is_folder else ())
    _check_trained_as(prefix, model)
    return checkpoints.read_model(prefix)


def _find(path: str, names) -> str:
    """Prefix of a checkpoint; without one, an error names the files there are."""
    try:
        return checkpoints.find(path)
    except UserError as error:
        files = [x for x in sorted(names) if x.endswith(_SUFFIXES)][:3]
        found = ", ".join(os.path.join(path, x) for x in files)
        raise UserError(
            f"task.init_checkpoint: {error} A file of weights is named itself "
            f"({', '.join(_SUFFIXES)})" + (f": here are {found}." if found else ".")
        ) from error


def _check_trained_as(prefix: str, model):
    """Raises if the config in its model directory says that it computes otherwise."""
    path = params_of(prefix)
    if path:
        task = read_yaml(path).get("task") or {}
        _check_same(task.get("model") or {}, model, path)


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
