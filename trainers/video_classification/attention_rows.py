"""Attention of non-local blocks for given positions, in TensorFlow's graphs.

`keras_nonlocal.visualize` does this for arrays; here clips and positions are tensors
of any shape, as an exported network needs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from keras_nonlocal.layers import NonLocal3D, TokenGroups
from keras_nonlocal.receptive_field import feature_grid
from trainers.core.errors import UserError, did_you_mean


class Rows(NamedTuple):
    """Attention of one block: how much each query takes from each key.

    Attributes:
        scores: float32 `(batch, positions, keys)`.
        queries: `(positions, 3)`: frame, row and column of the block's nearest
            position to each one that was asked for, in the clip.
        keys: `(positions, keys, 3)`: centres of the keys that each query attends to.
    """

    scores: tf.Tensor
    queries: tf.Tensor
    keys: tf.Tensor


def block_names(model, names: Sequence[str] | None = None) -> list[str]:
    """The names of the non-local blocks of a model, or `names` after a check.

    Raises:
        UserError: The model has no such block.
    """
    found = [layer.name for layer in model.layers if isinstance(layer, NonLocal3D)]
    for name in names or ():
        if name not in found:
            raise UserError(
                f"task.export.attention_blocks: the network has no block {name!r}."
                f"{did_you_mean(name, found)}"
            )
    return found if names is None else list(names)


class AttentionRows:
    """Function from clips and positions to the `Rows` of blocks, by name.

    Args:
        model: Functional Keras model on clips `(batch, T, H, W, C)`.
        names: Of blocks, at least one.
    """

    def __init__(self, model, names: Sequence[str]):
        self._blocks = [model.get_layer(name) for name in names]
        self._inputs = keras.Model(model.input, [x.input for x in self._blocks])

    def __call__(self, clips: tf.Tensor, positions: tf.Tensor) -> dict[str, Rows]:
        """Positions are float32 `(positions, 3)`, in frames and pixels of the clips."""
        found = self._inputs(clips, training=False)
        maps = found if isinstance(found, list | tuple) else [found]
        pairs = zip(self._blocks, maps, strict=True)
        return {block.name: _rows(block, x, positions) for block, x in pairs}


def _rows(block, x, positions):
    start, stride = _grid(block, (1, 1, 1))
    shape = tf.shape(x)[1:4]
    nearest = tf.cast(tf.round((positions - start) / stride), tf.int32)
    nearest = tf.clip_by_value(nearest, 0, shape - 1)
    group, row = _places(block, shape, nearest)
    options = {"training": False, "return_attention_scores": True}
    scores = block(x, query_indices=row, **options)[1]  # (B, *groups, positions, keys)
    sizes = tf.shape(scores)
    scores = tf.reshape(scores, [sizes[0], -1, sizes[-2], sizes[-1]])
    scores = tf.gather(tf.transpose(scores, (2, 1, 0, 3)), group, batch_dims=1)
    return Rows(
        tf.cast(tf.transpose(scores, (1, 0, 2)), tf.float32),
        start + stride * tf.cast(nearest, tf.float32),
        tf.gather(_key_centres(block, shape), group),
    )


def _grid(block, sizes):
    """Centre of the first position and stride, after a pooling by `sizes`."""
    grid = feature_grid(block.input, (1, 1, 1), (1, 1, 1)).pooled(sizes)
    return tf.constant(grid.start, tf.float32), tf.constant(grid.stride, tf.float32)


def _places(block, shape, nearest):
    """Group of each position, and its row among the tokens of that group."""
    t, y, x = tf.unstack(shape)
    numbers = tf.reshape(tf.range(t * y * x), (1, t, y, x, 1))
    tokens = _groups(block, shape).from_map(numbers)  # (groups, tokens, 1)
    place = tf.math.invert_permutation(tf.reshape(tokens, [-1]))
    number = tf.reduce_sum(nearest * tf.stack([y * x, x, 1]), axis=-1)
    place, length = tf.gather(place, number), tf.shape(tokens)[1]
    return place // length, place % length


def _key_centres(block, shape):
    """`(groups, keys, 3)`."""
    sizes = block.key_pool_sizes(3)
    start, stride = _grid(block, sizes)
    axes = [tf.range(n) for n in tf.unstack(shape // sizes)]
    index = tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1)
    centres = start + stride * tf.cast(index, tf.float32)
    return _groups(block, shape).from_map(centres[tf.newaxis])


def _groups(block, shape):
    """Of one map of this shape, `(1, T, H, W, 1)`."""
    example = tf.zeros(tf.concat([[1], shape, [1]], 0), tf.int32)
    return TokenGroups(ops.shape(example), block.scope, block.group_size)
