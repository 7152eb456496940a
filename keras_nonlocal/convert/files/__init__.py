"""Checkpoint files of other projects, read without running code in them."""

from keras_nonlocal.convert.files.checkpoint import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
