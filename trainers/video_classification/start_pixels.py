"""The pixels that the weights of `init_checkpoint` need, beside those of clips here."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.convert import CheckpointError
from keras_nonlocal.convert.known import read_known
from keras_nonlocal.convert.preprocessing import pixels_of
from keras_nonlocal.convert.sources import SOURCES
from trainers.core import checkpoints
from trainers.core.config import PARAMS_FILE
from trainers.core.errors import UserError
from trainers.core.yaml_io import read_yaml

_TOLERANCE = 0.05  # of 255: sources round their statistics


def adapt_pixels(model, config, source: str) -> list[str]:
    """Makes a loaded network one for the clips here, which are RGB.

    Args:
        model: Its conv1 is turned round if its weights are for BGR.
        config: `VideoClassificationConfig`.
        source: Name of the source of the weights.

    Returns:
        Lines to tell the user.

    Raises:
        UserError: `task.clip` has another mean or std than the weights need, and
            `init_checkpoint_pixels` is not `any`.
    """
    pixels = _pixels(config.init_checkpoint, source)
    if not pixels:
        return []
    needed = {key: _three(pixels[key], config) for key in ("mean", "std")}
    if pixels.get("color") != "BGR":
        return _compare(needed, config, source)
    kernel = model.get_layer("conv1").kernel
    kernel.assign(keras.ops.flip(kernel, axis=-2))
    needed = {key: value[::-1] for key, value in needed.items()}
    return ["conv1 turned from BGR to RGB", *_compare(needed, config, source)]


def params_of(prefix: str):
    """The config that a checkpoint of the trainers was made with, or None."""
    folder = pathlib.Path(prefix).parent  # that of the best is within it
    paths = (folder / PARAMS_FILE, folder.parent / PARAMS_FILE)
    return next((path for path in paths if path.is_file()), None)


def _pixels(path: str, source: str):
    """`"color"`, `"mean"` and `"std"` as far as they are known."""
    if source != "keras_nonlocal":
        convention = SOURCES[source].convention or "paper"  # images: not asked for
        return pixels_of(source, convention)
    if tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path):
        try:
            return read_known(path, source)[1]
        except CheckpointError as error:
            raise UserError(f"task.init_checkpoint: {path}: {error}") from error
    params = params_of(checkpoints.find(path))
    clip = ((read_yaml(params).get("task") or {}).get("clip") or {}) if params else {}
    return clip if clip.get("mean") and clip.get("std") else {}


def _three(values, config) -> list[float]:
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.shape != (3,):
        raise UserError(
            f"task.init_checkpoint: {config.init_checkpoint} says that its pixels' "
            f"mean or std is {values!r}. Expected three numbers: the file is damaged."
        )
    return array.tolist()


def _compare(needed, config, source) -> list[str]:
    clip = {"mean": config.clip.mean, "std": config.clip.std}
    if all(np.allclose(clip[x], needed[x], rtol=0, atol=_TOLERANCE) for x in needed):
        return []
    lines = " and ".join(f"task.clip.{x}={_listed(y)}" for x, y in needed.items())
    have = ", ".join(f"{x}={_listed(y)}" for x, y in clip.items())
    facts = (
        f"the weights of task.init_checkpoint ({source}) were trained on pixels "
        f"normalised otherwise than task.clip says ({have})"
    )
    if config.init_checkpoint_pixels == "any":
        return [f"! {facts}; theirs are {lines}"]
    raise UserError(
        f"{facts[0].upper()}{facts[1:]}. Set {lines}; to fine-tune with others all "
        "the same, task.init_checkpoint_pixels=any."
    )


def _listed(values) -> str:
    """As an override on the command line, where a space would end it."""
    return f"[{','.join(f'{x:g}' for x in values)}]"
