"""float32 for sums that float16 and bfloat16 are too coarse for."""

from keras import backend, ops


def at_least_float32(x):
    """`x`, cast to float32 if it is in half precision."""
    dtype = accumulation_dtype(x.dtype)
    return x if backend.standardize_dtype(x.dtype) == dtype else ops.cast(x, dtype)


def accumulation_dtype(dtype):
    """float32 for float16 and bfloat16; else `dtype`."""
    dtype = backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype
