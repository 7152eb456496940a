"""Feature maps as groups of tokens that attend to one another."""

import math

from keras import ops


class TokenGroups:
    """Converts a feature map to `(batch * groups, tokens, channels)`, and back.

    Tokens attend within their group: with `scope="spacetime"` the whole map, or every
    `group_size` successive frames; with `"space"` one frame; with `"time"` one spatial
    position (in every `group_size` frames).

    Args:
        map_shape: `(B, L, C)`, `(B, H, W, C)` or `(B, T, H, W, C)`; ints, None
            (shapes only) or scalar tensors (dynamic axes).
        scope: `"spacetime"`, `"space"` or `"time"`.
        group_size: Frames per group, or None.
    """

    def __init__(self, map_shape, scope, group_size):
        self._batch = map_shape[0]
        self._space = tuple(map_shape[1:-1])
        self._along_time = scope == "time"
        self._frames = 1 if scope == "space" else group_size
        self.length = self._tokens_per_group(self._space)
        self.groups = self._group_axes()

    def from_map(self, x):
        """`(B, *axes, C)` to tokens; keys may have been pooled to fewer."""
        length = self._tokens_per_group(ops.shape(x)[1:-1])
        if self._along_time:
            x = ops.transpose(x, (0, 2, 3, 1, 4))  # (B, H, W, T, C)
        # Not -1, which would accept frames that `group_size` does not divide.
        num_groups = _product((self._batch, *self.groups))
        return ops.reshape(x, (num_groups, length, x.shape[-1]))

    def to_map(self, tokens):
        """Tokens of the queries back to `(B, *axes, C)`."""
        channels = tokens.shape[-1]
        if not self._along_time:
            return ops.reshape(tokens, (self._batch, *self._space, channels))
        frames, height, width = self._space
        x = ops.reshape(tokens, (self._batch, height, width, frames, channels))
        return ops.transpose(x, (0, 3, 1, 2, 4))

    def separate(self, scores):
        """`(B * groups, N, M)` to `(B, *groups, N, M)`."""
        if not self.groups:
            return scores
        _, num_queries, num_keys = ops.shape(scores)
        return ops.reshape(scores, (self._batch, *self.groups, num_queries, num_keys))

    def _tokens_per_group(self, space):
        if self._along_time:
            return self._frames or space[0]
        if self._frames:
            space = (self._frames, *space[1:])
        return _product(space)

    def _group_axes(self):
        positions = (_product(self._space[1:]),) if self._along_time else ()
        if not self._frames:
            return positions
        frames = self._space[0]
        return (*positions, None if frames is None else frames // self._frames)


def _product(sizes):
    return None if None in sizes else math.prod(sizes)
