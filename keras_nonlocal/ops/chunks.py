"""A loop over slices of the queries that keeps one slice's work in memory."""

from keras import backend, ops

# What the weights of one slice take: large enough for fast matrix products, small
# enough to stay in a processor's cache.
CHUNK_BYTES = 2**24
MIN_ROWS = 128


def chunk_rows(batch, num_queries, num_keys):
    """Queries per slice, so that its `(batch, rows, num_keys)` weights are small.

    Ints give an int, a divisor of `num_queries` where there is one close by, and
    scalar tensors (dynamic axes) a scalar tensor.
    """
    largest, floor = CHUNK_BYTES // 4, MIN_ROWS
    sizes = (batch, num_queries, num_keys)
    if not all(isinstance(size, int) for size in sizes):
        rows = largest // ops.maximum(batch * num_keys, 1)
        return ops.minimum(ops.maximum(rows, -(-floor // batch)), num_queries)
    rows = max(largest // max(batch * num_keys, 1), -(-floor // max(batch, 1)))
    if rows >= num_queries:
        return max(num_queries, 1)
    divisors = (r for r in range(rows, rows // 2, -1) if num_queries % r == 0)
    return next(divisors, -(-num_queries // -(-num_queries // rows)))


def split(x, rows, value=0.0):
    """`(B, N, d)` to `(B, n, rows, d)`, padded with `value` to whole slices."""
    batch, length, channels = ops.shape(x)
    count = -(-length // rows)
    missing = count * rows - length
    if not isinstance(missing, int) or missing:
        padding = ops.full((batch, missing, channels), value, dtype=x.dtype)
        x = ops.concatenate([x, padding], axis=1)
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
    first = [x[:, 0] for x in slices]
    shapes = [(count, *ops.shape(x)) for x in step(sums, *first)[1]]
    dtypes = [x.dtype for x in step(sums, *first)[1]]
    stacks = tuple(ops.zeros(s, d) for s, d in zip(shapes, dtypes, strict=True))

    def body(i, sums, stacks):
        sums, outputs = step(sums, *(x[:, i] for x in slices))
        index = ops.reshape(i, (1, 1))
        stacks = [
            ops.scatter_update(stack, index, output[None])
            for stack, output in zip(stacks, outputs, strict=True)
        ]
        return i + 1, tuple(sums), tuple(stacks)

    start = ops.convert_to_tensor(0, "int32")
    state = (start, tuple(sums), stacks)
    _, sums, stacks = ops.while_loop(lambda i, *_: i < count, body, state)
    return sums, stacks


def _unrolled(step, sums, slices, count):
    outputs = []
    for i in range(count):
        sums, output = step(sums, *(x[:, i] for x in slices))
        outputs.append(output)
    return sums, tuple(ops.stack(parts) for parts in zip(*outputs, strict=True))
