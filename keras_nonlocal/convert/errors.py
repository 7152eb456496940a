"""The error that everything in `keras_nonlocal.convert` raises."""


class CheckpointError(ValueError):
    """A file that cannot be read, or weights that do not fit."""
