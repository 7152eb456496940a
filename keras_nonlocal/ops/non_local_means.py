"""Non-local means (Buades et al., 2005) as an instance of the non-local operation."""

import math

import numpy as np
from keras import backend, ops

from keras_nonlocal.ops.half_precision import at_least_float32
from keras_nonlocal.ops.non_local import non_local

_EXCLUDED = -1e9  # added to the exponent of pixels outside the search window
_NUMBERS = 2**22  # in the keys of the tiles that are computed at once


def non_local_means(
    image, h=0.1, patch_size=7, patch_distance=11, *, channel_axis=None
):
    """Denoises a signal, image, video or volume by non-local means.

    Each pixel becomes the mean of those in its search window S_i, weighted by how
    similar the patches P around them are:

        y_i = 1/C_i sum_{j in S_i} exp(-|P_i - P_j|^2 / h^2) x_j

    C_i is the sum of the weights, and |.|^2 a mean over channels and over the pixels
    of a patch, where the pixel at a distance r from the centre along an axis has the
    weight exp(-r^2 / (2 a^2)) with a = (patch_size - 1) / 4. Beyond its border an
    image goes on as its reflection; the search window ends there.

    As |P_i|^2 cancels, this is `ops.non_local` in mode "embedded_gaussian" (Eq. 3),
    with the pixels as g and

        theta_i = [2 P_i / h, 1],  phi_j = [P_j / h, -|P_j|^2 / h^2].

    A limited window is computed in tiles: theta also has the position within the
    tile, one-hot, and phi -1e9 for each position whose window the key is not in.

    The arguments and the weights are those of scikit-image's
    `denoise_nl_means(fast_mode=False, sigma=0)`, which computes an approximation: a
    weight becomes 0 where the distance exceeds 5 before the last row of the patches,
    and its exponential is an approximate one. On a photograph with h=0.1 its pixels
    differ by 0.003 on average, and by 0.11 at most; of the equation with that
    truncation by 0.0002 and 0.003.

    Args:
        image: Floats of any rank, such as `(L,)`, `(H, W)`, `(T, H, W)`, and one axis
            more if `channel_axis` is set.
        h: Smoothing: patches that differ by more have little weight. About the
            standard deviation of the noise, in the units of the image.
        patch_size: Odd length of a patch along each axis, or one per axis.
        patch_distance: How far a search window extends from its pixel along each
            axis, or one per axis. None: over the whole axis.
        channel_axis: Axis of the channels, -1 for `(H, W, 3)`; None if there is none.

    Returns:
        A tensor of the image's shape and dtype. Memory grows with its pixels times
        those of a patch; of windows and of pairs of pixels only parts are held.

    Raises:
        ValueError: An image of integers, without pixels or axes; `h` that is not
            positive; an even `patch_size`, a negative `patch_distance`, or not one of
            them per axis.

    Example:
    >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32))
    >>> denoised = np.asarray(non_local_means(noisy, h=0.1))
    >>> denoised.shape, bool(denoised.std() < 0.5 * noisy.std())
    ((32, 32), True)

    Reference: [Buades et al., 2005](https://doi.org/10.1109/CVPR.2005.38)
    """
    image = ops.convert_to_tensor(image)
    _check_image(image, h, channel_axis)
    x = at_least_float32(image)
    if channel_axis is None:
        x = ops.expand_dims(x, -1)
    else:
        x = ops.moveaxis(x, channel_axis, -1)
    y = _denoise(x, float(h), patch_size, patch_distance)
    y = y[..., 0] if channel_axis is None else ops.moveaxis(y, -1, channel_axis)
    return ops.cast(y, image.dtype)


def _denoise(x, h, patch_size, patch_distance):
    """Of `(*axes, C)`."""
    shape = tuple(x.shape[:-1])
    sizes = _per_axis("patch_size", patch_size, len(shape), _is_odd, "an odd int")
    distances = _per_axis(
        "patch_distance", patch_distance, len(shape), _is_distance, "an int from 0"
    )
    patches = _patches(x - ops.mean(x), sizes) / h  # distances need no mean
    squares = ops.sum(ops.square(patches), axis=1, keepdims=True)
    theta = ops.concatenate([2 * patches, ops.ones_like(squares)], axis=1)
    phi = ops.concatenate([patches, -squares], axis=1)
    g = ops.reshape(x, (-1, x.shape[-1]))
    tiles = _Tiles(shape, distances)
    parts = [_mix(theta, phi, g, *part) for part in tiles.parts(theta.shape[1])]
    y = ops.take(ops.concatenate(parts), tiles.order, axis=0)
    return ops.reshape(y, x.shape)


def _mix(theta, phi, g, queries, keys, one_hot, excluded):
    """y of the pixels in some tiles, one tile after another."""
    one_hot = ops.cast(
        np.broadcast_to(one_hot, (len(queries), *one_hot.shape)), g.dtype
    )
    excluded = ops.cast(excluded * np.float32(_EXCLUDED), g.dtype)
    theta = ops.concatenate([ops.take(theta, queries, axis=0), one_hot], axis=2)
    phi = ops.concatenate([ops.take(phi, keys, axis=0), excluded], axis=2)
    y = non_local(theta, phi, ops.take(g, keys, axis=0), "embedded_gaussian")
    return ops.reshape(y, (-1, g.shape[-1]))


# === Patches ===


def _patches(x, sizes):
    """`(pixels, values)`, whose squared distances are the weighted means."""
    *shape, channels = x.shape
    for axis, size in enumerate(sizes):
        reflected = np.pad(np.arange(shape[axis]), size // 2, mode="reflect")
        x = ops.take(x, reflected, axis=axis)
    weights = _patch_weights(sizes) / channels
    values = []
    for offset in np.ndindex(*sizes):
        window = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        values.append(x[window] * math.sqrt(weights[offset]))
    return ops.reshape(ops.stack(values, axis=-2), (math.prod(shape), -1))


def _patch_weights(sizes):
    """A Gaussian over a patch, of sum 1."""
    weights = np.ones(())
    for size in sizes:
        a = max((size - 1) / 4, 1e-6)
        r = np.arange(size) - size // 2
        weights = weights[..., None] * np.exp(-(r**2) / (2 * a**2))
    return weights / weights.sum()


# === Search windows ===


class _Tiles:
    """An image cut into tiles; the keys of a tile are the pixels within a distance.

    Attributes:
        order: For each pixel, its number among the queries of all tiles.
    """

    def __init__(self, shape, distances):
        self._shape = shape
        self._axes = [_tile_axis(*axis) for axis in zip(shape, distances, strict=True)]
        self._queries = [queries for queries, _, _ in self._axes]
        self._keys = [keys for _, keys, _ in self._axes]
        self._tiles = np.indices([len(queries) for queries in self._queries])
        self._tiles = self._tiles.reshape(len(shape), -1)  # (axes, tiles)
        self.order = np.zeros(math.prod(shape), "int32")
        queries = self._positions(self._queries, self._tiles).ravel()
        # The last tiles extend beyond the image: there queries repeat its last pixels.
        self.order[queries[::-1]] = np.arange(queries.size)[::-1]

    def parts(self, channels):
        """Yields queries, keys, one-hot positions and exclusions of some tiles."""
        num_keys = math.prod(keys.shape[1] for keys in self._keys)
        step = max(_NUMBERS // (num_keys * channels), 1)
        for start in range(0, self._tiles.shape[1], step):
            tiles = self._tiles[:, start : start + step]
            queries = self._positions(self._queries, tiles)
            keys = self._positions(self._keys, tiles)
            yield queries, keys, self._one_hot(), self._excluded(tiles)

    def _positions(self, axes, tiles):
        """Numbers of pixels, `(tiles, pixels of a tile)`."""
        inside = _grid([positions.shape[1] for positions in axes])
        index = [
            np.clip(positions[tile][:, i], 0, size - 1)
            for positions, tile, i, size in zip(
                axes, tiles, inside, self._shape, strict=True
            )
        ]
        return np.ravel_multi_index(index, self._shape).astype("int32")

    def _one_hot(self):
        """`(queries, positions)`: of each axis with windows."""
        lengths = [queries.shape[1] for queries in self._queries]
        parts = [
            np.eye(length, dtype="float32")[i]
            for length, i, axis in zip(lengths, _grid(lengths), self._axes, strict=True)
            if axis[2] is not None
        ]
        return np.concatenate([np.zeros((math.prod(lengths), 0)), *parts], axis=1)

    def _excluded(self, tiles):
        """`(tiles, keys, positions)`: 1 where a key is not in that query's window."""
        lengths = [keys.shape[1] for keys in self._keys]
        parts = [
            excluded[tile][:, i]
            for (_, _, excluded), tile, i in zip(
                self._axes, tiles, _grid(lengths), strict=True
            )
            if excluded is not None
        ]
        empty = np.zeros((tiles.shape[1], math.prod(lengths), 0), "float32")
        return np.concatenate([empty, *parts], axis=2)


def _tile_axis(size, distance):
    """Positions of the queries and the keys of each tile along an axis.

    Returns:
        Queries `(tiles, n)`, keys `(tiles, m)`, and `(tiles, m, n)`: 1 where a key is
        not in the window of a query; None if the windows are the whole axis.
    """
    if distance is None or distance >= size - 1:
        return np.arange(size)[None], np.arange(size)[None], None
    length = min(size, max(distance, 8))
    starts = length * np.arange(-(-size // length))[:, None]
    queries = starts + np.arange(length)
    keys = starts + np.arange(-distance, length + distance)
    is_excluded = np.abs(keys[:, :, None] - queries[:, None]) > distance
    is_excluded |= ((keys < 0) | (keys >= size))[:, :, None]
    return queries, keys, is_excluded.astype("float32")


def _grid(lengths):
    return np.indices(lengths).reshape(len(lengths), -1)


# === Checks ===


def _check_image(image, h, channel_axis):
    dtype = backend.standardize_dtype(image.dtype)
    if "float" not in dtype:
        raise ValueError(
            f"non_local_means: expected `image` in floats. Received dtype: {dtype}. "
            "Bytes become floats from 0 to 1 by image / 255."
        )
    rank = len(image.shape) - (channel_axis is not None)
    if rank < 1 or None in image.shape or 0 in image.shape:
        raise ValueError(
            "non_local_means: expected `image` with pixels along at least one axis "
            f"besides `channel_axis`. Received shape: {tuple(image.shape)}, "
            f"channel_axis={channel_axis}."
        )
    if not h > 0:
        raise ValueError(f"non_local_means: expected `h` above 0. Received: h={h}.")


def _per_axis(name, value, rank, is_valid, expected):
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(values) != rank or not all(map(is_valid, values)):
        raise ValueError(
            f"non_local_means: expected `{name}` as {expected}, or {rank} of them: one "
            f"per axis. Received: {name}={value!r}."
        )
    return values


def _is_odd(size):
    return isinstance(size, int | np.integer) and size > 0 and size % 2 == 1


def _is_distance(distance):
    return distance is None or (
        isinstance(distance, int | np.integer) and distance >= 0
    )
