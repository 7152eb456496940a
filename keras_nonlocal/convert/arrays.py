"""NumPy arrays from whatever holds numbers."""

import numpy as np
from keras import ops


def to_arrays(state):
    """The arrays of a dict, PyTorch's tensors among them, as NumPy's.

    What is no array (a count of steps, a text) is left out.

    Example:
    >>> to_arrays({"fc.bias": np.zeros(2), "epoch": 7})
    {'fc.bias': array([0., 0.])}
    """
    return {
        str(name): _to_numpy(value)
        for name, value in state.items()
        if hasattr(value, "shape")
    }


def _to_numpy(value):
    if hasattr(value, "detach"):  # PyTorch, whose bfloat16 NumPy has not
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def to_float32(array):
    """The numbers as float32, or None for what is not numbers (text, objects)."""
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        return None
    with np.errstate(over="ignore"):  # infinity, which is reported
        return array.astype("float32")


def to_dtype(array, dtype):
    """The numbers as a weight of `dtype` holds them."""
    if dtype == "float32":
        return array
    with np.errstate(over="ignore"):  # JAX casts in NumPy; infinity is the answer
        return ops.convert_to_numpy(ops.cast(array, dtype)).astype("float32")
