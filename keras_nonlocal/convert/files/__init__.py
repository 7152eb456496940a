"""Checkpoint files of other projects, read without running any code in them."""

from keras_nonlocal.convert.files.checkpoint import Checkpoint, read_checkpoint
from keras_nonlocal.convert.files.weights import read_weights

__all__ = ["Checkpoint", "read_checkpoint", "read_weights"]
