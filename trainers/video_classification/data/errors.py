"""Errors a user of the data pipeline can cause, and is told about."""


class DataError(ValueError):
    """The data, or what was said about them, cannot be used as they stand."""


class VideoError(DataError):
    """One video cannot be decoded.

    Attributes:
        path: The video.
        reason: Why, in one line.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TooManyBrokenVideos(DataError):
    """More of the videos are broken than `max_broken_fraction` allows."""
