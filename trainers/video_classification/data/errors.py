"""Errors in data that a user can correct."""

from trainers.core import files
from trainers.core.errors import DataError


class VideoError(DataError):
    """A video cannot be decoded.

    Attributes:
        path: The video.
        reason: Why, in one line.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(f"{files.printable(path)}: {files.printable(reason)}")
        self.path = path
        self.reason = reason
