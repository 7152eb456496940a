"""Gradient accumulation: a batch is computed in parts, one after another."""

import tensorflow as tf


def part_of(inputs, index, num_parts: int):
    """Part number `index` of `num_parts` equal parts of a batch.

    It is every `num_parts`-th example: the parts that replicas with equal shares of a
    batch compute at a time are together the same examples for any number of replicas.

    Example:
    >>> part_of(tf.range(6), tf.constant(1), 3).numpy().tolist()
    [1, 4]
    """
    if num_parts == 1:
        return inputs
    return tf.nest.map_structure(lambda x: _split(x, num_parts)[:, index], inputs)


def _split(x, num_parts):
    """(B, ...) -> (B / num_parts, num_parts, ...); static sizes stay static."""
    sizes = tf.shape(x)
    batch, *rest = (sizes[i] if n is None else n for i, n in enumerate(x.shape))
    return tf.reshape(x, (batch // num_parts, num_parts, *rest))


def accumulate(strategy, compute, num_parts: int, args=()):
    """Sums the outputs of `compute` over the parts, in cross-replica context.

    This is a loop, so that graph and memory are those of one part: a part begins
    when the sums of the one before are complete. The loop runs outside of the
    replicas, so that `compute` may reduce over them.

    Args:
        strategy: `tf.distribute.Strategy`.
        compute: Called on each replica with the index of a part (a scalar tensor)
            and `args`; returns a structure of tensors.
        num_parts: At least 1.
        args: Per-replica values.
    """

    def add(sums, index, *args):
        return tf.nest.map_structure(tf.add, sums, compute(index, *args))

    def body(index, sums):
        sums = strategy.run(add, args=(sums, index, *args))
        return _after(index + 1, sums, strategy), sums

    sums = strategy.run(compute, args=(tf.constant(0), *args))
    if num_parts == 1:
        return sums
    start = _after(tf.constant(1), sums, strategy)
    sums = tf.while_loop(lambda index, _: index < num_parts, body, (start, sums))[1]
    # A loop's outputs have no device, and only values that have one can be reduced.
    return strategy.run(_identity, args=(sums,))


def _identity(values):
    return tf.nest.map_structure(tf.identity, values)


def _after(index, sums, strategy):
    """`index`, after the sums: TensorFlow would start the next part before them."""
    values = [strategy.experimental_local_results(x) for x in tf.nest.flatten(sums)]
    with tf.control_dependencies(tf.nest.flatten(values)):
        return tf.identity(index)
