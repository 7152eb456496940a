"""The backend's own kernels."""

from keras import backend


def backend_kernels():
    """A module of what the backend does faster than keras.ops, or None."""
    if backend.backend() != "tensorflow":
        return None
    from keras_nonlocal.ops import tensorflow_kernels

    return tensorflow_kernels
