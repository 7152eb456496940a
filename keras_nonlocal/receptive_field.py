"""Where the positions of a feature map lie in the input of the network."""

import dataclasses

import numpy as np

_WINDOWS = ("kernel_size", "pool_size")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The positions of a feature map, in coordinates of the input.

    Along each axis position i is centred on `start + stride * i`, where input
    pixel (or frame) k has its centre at k. A whole number is the middle of a
    pixel, 0.5 the border between the first and the second.

    Attributes:
        shape: Positions along each axis: `(T, H, W)`, `(H, W)` or `(L,)`.
        start: Centre of the first position, per axis.
        stride: Input pixels (frames) from one position to the next, per axis.
    """

    shape: tuple[int, ...]
    start: tuple[float, ...]
    stride: tuple[float, ...]

    @property
    def centres(self) -> np.ndarray:
        """Centres of all positions, `(positions, axes)`, last axis fastest."""
        index = np.indices(self.shape).reshape(len(self.shape), -1).T
        return np.asarray(self.start) + np.asarray(self.stride) * index

    def nearest(self, *point) -> int:
        """Number of the position whose centre is nearest to an input point."""
        offset = (np.asarray(point) - self.start) / self.stride
        index = np.clip(np.rint(offset).astype(int), 0, np.asarray(self.shape) - 1)
        return int(np.ravel_multi_index(index, self.shape))

    def pooled(self, sizes) -> "Grid":
        """The grid behind a pooling, without padding, of `sizes` by `sizes`."""
        steps = [Step(size, size, 0) for size in sizes]
        return _advance(self, steps)._replace_shape(
            n // size for n, size in zip(self.shape, sizes, strict=True)
        )

    def _replace_shape(self, shape):
        return dataclasses.replace(self, shape=tuple(shape))


@dataclasses.dataclass(frozen=True)
class Step:
    """Along one axis: a window of `extent`, moved by `stride`, behind `padding`.

    Output position i is centred on input position
    `stride * i - padding + (extent - 1) / 2`.
    """

    extent: float
    stride: float
    padding: float

    @property
    def shift(self) -> float:
        """Centre of the first output position, in input positions."""
        return (self.extent - 1) / 2 - self.padding


def feature_grid(tensor, shape, input_shape) -> Grid:
    """The grid of a tensor of a functional model, in coordinates of its input.

    Follows the layers from the tensor back to the input and composes their
    windows, strides and paddings (`Step`):

        start' = start + stride * ((extent - 1) / 2 - padding)
        stride' = stride * layer's stride

    for every convolution, pooling and padding. Through any other layer that
    changes the size (resizing, cropping, a nested model) the map is taken to
    cover the same area in equal cells. Where branches meet, the first is
    followed: in a residual block both give the same centres.

    Args:
        tensor: Symbolic tensor, `(batch, *axes, channels)`, such as `layer.input`.
        shape: Its size along `axes`.
        input_shape: The input's.
    """
    steps = list(_path(tensor, len(shape)))
    axes = range(len(shape))
    grid = Grid(tuple(input_shape), (0.0,) * len(shape), (1.0,) * len(shape))
    for step in reversed(steps):
        grid = _advance(grid, [step[axis] for axis in axes])
    return grid._replace_shape(shape)


def _advance(grid, steps):
    start, stride = [], []
    for s, jump, step in zip(grid.start, grid.stride, steps, strict=True):
        start.append(s + jump * step.shift)
        stride.append(jump * step.stride)
    return Grid(grid.shape, tuple(start), tuple(stride))


def _path(tensor, num_axes):
    """Steps per axis of each layer that leads to a tensor, the last first."""
    while True:
        layer = tensor._keras_history.operation
        before = _inputs(layer, tensor)
        if not before:
            return
        before = next((t for t in before if len(t.shape) == num_axes + 2), None)
        if before is None:
            raise ValueError(
                f"Layer '{layer.name}' has no input of rank {num_axes + 2}: positions "
                "behind it cannot be traced to the input of the model."
            )
        yield _steps(layer, before.shape[1:-1], tensor.shape[1:-1])
        tensor = before


def _inputs(layer, tensor):
    node = layer._inbound_nodes[tensor._keras_history.node_index]
    return node.input_tensors


def _steps(layer, before, after):
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise ValueError(
            f"Layer '{layer.name}' has data_format='channels_first'; only "
            "'channels_last' models can be traced to their input."
        )
    extents = _window(layer)
    if extents is not None and hasattr(layer, "strides"):
        return _window_steps(layer, extents, before)
    if type(layer).__name__.startswith("ZeroPadding"):
        return _padding_steps(layer, len(before))
    return [_resize_step(n, m) for n, m in zip(before, after, strict=True)]


def _window(layer):
    if "Transpose" in type(layer).__name__:
        return None
    return next(
        (getattr(layer, name) for name in _WINDOWS if hasattr(layer, name)), None
    )


def _window_steps(layer, extents, sizes):
    dilations = getattr(layer, "dilation_rate", (1,) * len(sizes))
    extents = [(n - 1) * d + 1 for n, d in zip(extents, dilations, strict=True)]
    # The layers of C2D and I3D say what they pad; Keras's say how.
    pads = getattr(layer, "pad", None) or [
        _padding(layer.padding, *axis)
        for axis in zip(sizes, extents, layer.strides, strict=True)
    ]
    return [Step(*axis) for axis in zip(extents, layer.strides, pads, strict=True)]


def _padding(kind, size, extent, stride):
    """Positions put before the first one; "same" puts the smaller half there."""
    if kind == "valid":
        return 0
    if kind == "causal":
        return extent - 1
    if size is None:  # as if the stride divided it
        return max(extent - stride, 0) // 2
    return max((-(-size // stride) - 1) * stride + extent - size, 0) // 2


def _padding_steps(layer, num_axes):
    padding = layer.padding if num_axes > 1 else (layer.padding,)
    return [Step(1, 1, before) for before, _ in padding]


def _resize_step(before, after):
    ratio = 1 if before is None or after is None else before / after
    return Step(ratio, ratio, 0)
