"""Gradient accumulation: an update from one part of its batch after another."""

import tensorflow as tf


def part_of(inputs, index, num_parts: int):
    """The `index`-th of `num_parts` equal parts of a batch, a structure of tensors.

    Example:
    >>> part_of(tf.range(6), tf.constant(1), 3).numpy().tolist()
    [2, 3]
    """
    if num_parts == 1:
        return inputs
    return tf.nest.map_structure(lambda x: _split(x, num_parts)[index], inputs)


def _split(x, num_parts):
    """(B, ...) -> (num_parts, B / num_parts, ...); sizes that are known stay so."""
    sizes = tf.shape(x)
    batch, *rest = (sizes[i] if n is None else n for i, n in enumerate(x.shape))
    return tf.reshape(x, (num_parts, batch // num_parts, *rest))


def accumulate(strategy, compute, num_parts: int, args=()):
    """Sum of what `compute` gives for each part, in cross-replica context.

    A loop, so that the graph and the memory are those of one part: the next
    begins when the sums of the last are there. It is around the replicas, which
    may sum over one another within.

    Args:
        strategy: `tf.distribute.Strategy`.
        compute: Called on each replica with the index of a part, a scalar tensor,
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
    return tf.while_loop(lambda index, _: index < num_parts, body, (start, sums))[1]


def _after(index, sums, strategy):
    """`index`, once the sums are there: else TensorFlow starts on the next part."""
    values = [strategy.experimental_local_results(x) for x in tf.nest.flatten(sums)]
    with tf.control_dependencies(tf.nest.flatten(values)):
        return tf.identity(index)
