"""A loop over slices of the queries that keeps one slice's work in memory."""

import numpy as np
from keras import backend, ops

# Of the weights of one slice: large enough for fast matrix products, small enough to
# stay in a processor's cache.
CHUNK_BYTES = 2**24
MIN_ROWS = 128
GROUPS = 8


def ceil_divide(length, size):
    """length / size, rounded up; both are ints or scalar tensors, not negative.

    Unlike `-(-length // size)`, right also where an exported graph (ONNX) rounds
    quotients towards zero.
    """
    return (length + size - 1) // size


def chunk_rows(batch, num_queries, num_keys):
    """Queries per slice, so that its `(batch, rows, num_keys)` weights are small.

    There is one slice, or a multiple of `GROUPS`. Ints give an int, scalar tensors
    (dynamic axes) a scalar tensor. On JAX, whose dynamic axes are symbols without an
    order, an unknown batch counts as 1, and of unknown lengths slices are the smallest.
    """
    if backend.backend() == "jax":
        if not (isinstance(num_queries, int) and isinstance(num_keys, int)):
            return MIN_ROWS
        batch = batch if isinstance(batch, int) else 1
    sizes = (batch, num_queries, num_keys)
    is_static = all(isinstance(size, int) for size in sizes)
    larger = max if is_static else ops.maximum
    rows = CHUNK_BYTES // 4 // larger(batch * num_keys, 1)
    rows = larger(rows, ceil_divide(MIN_ROWS, larger(batch, 1)))
    if is_static and rows >= num_queries:
        return max(num_queries, 1)
    if is_static and num_queries % GROUPS == 0:  # a divisor nearby needs no padding
        for fitting in range(rows, rows // 2, -1):
            if num_queries // GROUPS % fitting == 0:
                return fitting
    count = GROUPS * ceil_divide(num_queries, GROUPS * rows)
    return larger(ceil_divide(num_queries, count), 1)


def split(x, rows):
    """`(B, N, d)` to `(B, n, rows, d)`, padded with zeros to `chunk_rows` slices."""
    batch, length, channels = ops.shape(x)
    count = ceil_divide(length, rows)
    if not isinstance(count, int) or count > 1:
        count = GROUPS * ceil_divide(count, GROUPS)
    missing = count * rows - length
    if not isinstance(missing, int) or missing:
        zeros = ops.zeros((batch, missing, channels), dtype=x.dtype)
        x = ops.concatenate([x, zeros], axis=1)
    return ops.reshape(x, (batch, count, rows, channels))


def join(x, length):
    """`(n, B, rows, d)`, as `loop` stacks them, back to `(B, N, d)`."""
    count, batch, rows, channels = ops.shape(x)
    x = ops.reshape(ops.transpose(x, (1, 0, 2, 3)), (batch, count * rows, channels))
    return x[:, :length]


def loop(step, sums, slices):
    """Calls `sums, outputs = step(sums, *slice)` for one slice after another.

    Args:
        step: Takes the running sums and one `(B, rows, ...)` slice of each of
            `slices`; returns the new sums and a tuple of `(B, rows, ...)` outputs.
        sums: Tuple of tensors.
        slices: Tensors from `split`.

    Returns:
        The final sums, and every output stacked: `(n, B, rows, ...)`.
    """
    count = ops.shape(slices[0])[1]
    if isinstance(count, int) and (count == 1 or backend.backend() == "torch"):
        return _unrolled(step, sums, slices, count)
    # TensorFlow copies a stack to write to it: several small ones are cheaper.
    groups = GROUPS if backend.backend() == "tensorflow" else 1
    parts, done = [], ()
    for group in range(groups):
        bounds = (group * count // groups, (group + 1) * count // groups)
        sums, stacks = _while(step, sums, slices, bounds, done)
        parts.append(stacks)
        done = (*sums, *stacks)
    return sums, tuple(map(ops.concatenate, zip(*parts, strict=True)))


def _while(step, sums, slices, bounds, done):
    """`loop` over the slices within `bounds`, after `done`."""
    first, end = bounds
    example = step(sums, *(x[:, 0] for x in slices))[1]
    start = _after(ops.convert_to_tensor(first, "int32"), done)
    stacks = tuple(ops.zeros((end - first, *ops.shape(x)), x.dtype) for x in example)

    def body(i, sums, stacks):
        sums, outputs = step(sums, *(x[:, i] for x in slices))
        index = ops.reshape(i - first, (1, 1))
        stacks = tuple(
            ops.scatter_update(stack, index, output[None])
            for stack, output in zip(stacks, outputs, strict=True)
        )
        return _after(i + 1, (*sums, *outputs)), tuple(sums), stacks

    state = (start, tuple(sums), stacks)
    _, sums, stacks = ops.while_loop(lambda i, *_: i < end, body, state)
    return sums, stacks


def _after(index, tensors):
    """`index`, with a dependency on `tensors`.

    Without it TensorFlow computes later slices at the same time, in more memory.
    """
    if not tensors:
        return index
    corners = (ops.cast(ops.ravel(t)[0], "float32") for t in tensors)
    return index + ops.cast(sum(corners) > np.inf, "int32")  # 0


def _unrolled(step, sums, slices, count):
    outputs = []
    for i in range(count):
        sums, output = step(sums, *(x[:, i] for x in slices))
        outputs.append(output)
    return sums, tuple(ops.stack(parts) for parts in zip(*outputs, strict=True))
