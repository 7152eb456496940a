"""Compares a converted network with logits recorded from its source project."""

import zipfile

import keras
import numpy as np
from keras import ops

from keras_nonlocal.convert.errors import CONVERTING, CheckpointError, located

TOLERANCE = 1e-4


def read_recorded_logits(path):
    """A clip and the logits that a source project's network gave for it.

    Args:
        path: `.npz` with `clip`, `(T, H, W, 3)` or `(B, T, H, W, 3)`, or with the
            channels before the frames if the last axis is not 3; and `logits`,
            `(num_classes,)` or `(B, num_classes)`, before any softmax.

    Returns:
        `(clips, logits)` as float32: `(B, T, H, W, 3)` and `(B, num_classes)`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ("clip", "logits") if name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"Cannot read {str(path)!r}: {error}.") from error
    except (AttributeError, TypeError):  # a single array, of a .npy file
        found = {}
    with located(f"Cannot compare with {str(path)!r}."):
        return _checked(found)


def _checked(found):
    for name in ("clip", "logits"):
        if name not in found:
            raise CheckpointError(
                f"It has no array {name!r}. Expected an .npz file with 'clip' and "
                "'logits'."
            )
        if found[name].dtype.kind not in "fiu" or not np.isfinite(found[name]).all():
            raise CheckpointError(f"{name!r} is not all finite numbers.")
        if not found[name].any():
            raise CheckpointError(f"{name!r} is all zeros.")
    clip, logits = found["clip"], np.atleast_2d(found["logits"]).astype("float32")
    clips = clip[None] if clip.ndim == 4 else clip
    if clips.ndim == 5 and clips.shape[1] == 3 != clips.shape[-1]:
        clips = np.moveaxis(clips, 1, -1)
    if clips.ndim != 5 or clips.shape[-1] != 3 or not clips.size:
        raise CheckpointError(
            f"'clip' has shape {clip.shape}. Expected (T, H, W, 3) or (B, T, H, W, 3), "
            "normalised as the network receives it; (3, T, H, W) and (B, 3, T, H, W) "
            "are taken too."
        )
    if logits.ndim != 2 or len(logits) != len(clips) or not logits.size:
        raise CheckpointError(
            f"'logits' has shape {found['logits'].shape}. Expected (num_classes,), or "
            f"(B, num_classes) for the {len(clips)} clips of 'clip'."
        )
    if (logits >= 0).all() and np.allclose(logits.sum(-1), 1, atol=1e-3):
        raise CheckpointError(
            "'logits' are probabilities, which sum to 1. Expected what the network "
            "gives before its softmax."
        )
    return clips.astype("float32"), logits


def compare(written, path, clips, logits):
    """Runs a written `.keras` file on clips, of the recorded logits at `path`.

    Returns the largest difference, relative to the largest logit; one above
    `TOLERANCE` is a `CheckpointError`.
    """
    model = keras.models.load_model(written, compile=False)
    taken, num_classes = model.input_shape[1:], model.output_shape[-1]
    where = f"Cannot compare with {str(path)!r}:"
    if clips.shape[1:] != taken:
        message = f"{where} its clip is {clips.shape[1:]}, the network takes {taken}."
        fix = {"clip": clips.shape[1:4]}
        raise CheckpointError(message, fix=fix, spelling=CONVERTING)
    if logits.shape[-1] != num_classes:
        raise CheckpointError(
            f"{where} it has logits of {logits.shape[-1]} classes, and the network of "
            f"{num_classes}."
        )
    outputs = [model(clip[None], training=False) for clip in clips]
    actual = np.concatenate([ops.convert_to_numpy(x) for x in outputs])
    difference = float(np.abs(actual - logits).max() / np.abs(logits).max())
    if not difference <= TOLERANCE:  # also for NaN
        raise CheckpointError(
            "The network does not compute what its source does, and nothing was "
            f"written: its logits differ from those in {str(path)!r} by "
            f"{difference:.1e} of the largest, at most {TOLERANCE:.0e} expected."
        )
    return difference
