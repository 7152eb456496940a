"""Positions of a feature map in the coordinates of the network's input."""

import dataclasses

import numpy as np

_WINDOWS = ("kernel_size", "pool_size")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The positions of a feature map, in coordinates of the input.

    Along each axis position i is centred on `start + stride * i`, where the centre of
    input pixel (or frame) k is k: 0.5 is the border between the first and the second.

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

    def even(self, count) -> np.ndarray:
        """Numbers of at most `count` positions, evenly spaced along each axis."""
        steps = np.ones(len(self.shape), int)
        while np.prod(-(-np.asarray(self.shape) // steps)) > count:
            steps[np.argmax(-(-np.asarray(self.shape) // steps))] += 1
        axes = [
            np.arange((min(step, size) - 1) // 2, size, step)
            for size, step in zip(self.shape, steps, strict=True)
        ]
        index = np.meshgrid(*axes, indexing="ij")
        return np.ravel_multi_index(index, self.shape).ravel()

    def pooled(self, sizes) -> "Grid":
        """The grid after a pooling with windows and strides of `sizes`, unpadded."""
        steps = [Step(size, size, 0) for size in sizes]
        shape = tuple(n // size for n, size in zip(self.shape, sizes, strict=True))
        return dataclasses.replace(_advance(self, steps), shape=shape)


@dataclasses.dataclass(frozen=True)
class Step:
    """Along one axis: a window of `extent`, moved by `stride`, after `padding`.

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

    for every convolution, pooling and padding. Any other layer that changes the size
    (resizing, cropping, a nested model) is assumed to cover the same area in equal
    cells. Of several inputs of a layer the first is followed: in a residual block both
    give the same centres.

    Args:
        tensor: Symbolic tensor, `(batch, *axes, channels)`, such as `layer.input`.
        shape: Its size along `axes`.
        input_shape: The input's.
    """
    grid = Grid(tuple(input_shape), (0.0,) * len(shape), (1.0,) * len(shape))
    for steps in reversed(list(_path(tensor, len(shape)))):
        grid = _advance(grid, steps)
    return dataclasses.replace(grid, shape=tuple(shape))


def _advance(grid, steps):
    start, stride = [], []
    for s, jump, step in zip(grid.start, grid.stride, steps, strict=True):
        start.append(s + jump * step.shift)
        stride.append(jump * step.stride)
    return Grid(grid.shape, tuple(start), tuple(stride))


def _path(tensor, num_axes):
    """Steps per axis of each layer that leads to a tensor, the last first."""
    while True:
        layer, node, _ = tensor._keras_history
        inputs = layer._inbound_nodes[node].input_tensors
        if not inputs:
            return
        before = next((t for t in inputs if len(t.shape) == num_axes + 2), None)
        if before is None:
            raise ValueError(
                f"Layer '{layer.name}' has no input of rank {num_axes + 2}: positions "
                "after it cannot be traced to the input of the model."
            )
        yield _steps(layer, before.shape[1:-1], tensor.shape[1:-1])
        tensor = before


def _steps(layer, before, after):
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise ValueError(
            f"Layer '{layer.name}' has data_format='channels_first'; only "
            "'channels_last' models can be traced to their input."
        )
    names = [name for name in _WINDOWS if hasattr(layer, name)]
    transposed = "Transpose" in type(layer).__name__
    if names and hasattr(layer, "strides") and not transposed:
        return _window_steps(layer, getattr(layer, names[0]), before)
    if type(layer).__name__.startswith("ZeroPadding"):
        return _padding_steps(layer, len(before))
    return [_resize_step(n, m) for n, m in zip(before, after, strict=True)]


def _window_steps(layer, extents, sizes):
    dilations = getattr(layer, "dilation_rate", (1,) * len(sizes))
    extents = [(n - 1) * d + 1 for n, d in zip(extents, dilations, strict=True)]
    # Layers of keras_nonlocal have the widths of their padding, Keras's its kind.
    pads = getattr(layer, "pad", None) or [
        _padding(layer.padding, *axis)
        for axis in zip(sizes, extents, layer.strides, strict=True)
    ]
    return [Step(*axis) for axis in zip(extents, layer.strides, pads, strict=True)]


def _padding(kind, size, extent, stride):
    """Positions added before the first one: of "same" the smaller half."""
    if kind == "valid":
        return 0
    if kind == "causal":
        return extent - 1
    if size is None:  # assumed to be a multiple of the stride
        return max(extent - stride, 0) // 2
    return max((-(-size // stride) - 1) * stride + extent - size, 0) // 2


def _padding_steps(layer, num_axes):
    padding = layer.padding if num_axes > 1 else (layer.padding,)
    return [Step(1, 1, before) for before, _ in padding]


def _resize_step(before, after):
    ratio = 1 if before is None or after is None else before / after
    return Step(ratio, ratio, 0)
