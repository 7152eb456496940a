"""Weights from other projects."""

from keras_nonlocal.convert.conversion import Conversion, convert_file
from keras_nonlocal.convert.errors import CheckpointError, Problem, Spelling
from keras_nonlocal.convert.keras_file import read_metadata, write_keras_file
from keras_nonlocal.convert.load import load_weights
from keras_nonlocal.convert.preprocessing import Pixels
from keras_nonlocal.convert.report import Report
from keras_nonlocal.convert.sources import SOURCES

__all__ = [
    "CheckpointError",
    "Conversion",
    "Pixels",
    "Problem",
    "Report",
    "SOURCES",
    "Spelling",
    "convert_file",
    "load_weights",
    "read_metadata",
    "write_keras_file",
]
