"""float32 for sums that float16 and bfloat16 are too coarse for."""

from keras import backend, ops

from keras_nonlocal.ops.backends import backend_kernels


def at_least_float32(x):
    """`x`, cast to float32 if it is in half precision."""
    dtype = accumulation_dtype(x.dtype)
    return x if backend.standardize_dtype(x.dtype) == dtype else ops.cast(x, dtype)


def accumulation_dtype(dtype):
    """float32 for float16 and bfloat16; else `dtype`."""
    dtype = backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def softmax(logits):
    """Softmax over the last axis, in the dtype of `logits`; its sums are in float32."""
    dtype = backend.standardize_dtype(logits.dtype)
    if accumulation_dtype(dtype) == dtype:
        return ops.softmax(logits)
    kernels = backend_kernels()
    if kernels and kernels.softmax_sums_in_float32(dtype):
        return ops.softmax(logits)
    return ops.cast(ops.softmax(at_least_float32(logits)), dtype)
