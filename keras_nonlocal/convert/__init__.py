"""Weights from other projects."""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.load import load_weights
from keras_nonlocal.convert.report import Report

__all__ = ["CheckpointError", "Report", "load_weights"]
