"""Weights from other projects."""

from keras_nonlocal.convert.conversion import convert_file
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.keras_file import read_metadata
from keras_nonlocal.convert.load import load_weights
from keras_nonlocal.convert.report import Report

__all__ = [
    "CheckpointError",
    "Report",
    "convert_file",
    "load_weights",
    "read_metadata",
]
