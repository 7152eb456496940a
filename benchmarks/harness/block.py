"""Non-local blocks: where implementations differ, and the forms that are measured."""

from typing import NamedTuple

import numpy as np

from harness.operation import MODES, OpShape, eighths
from harness.process import Made


class Convention(NamedTuple):
    """Of an implementation of the block."""

    modes: tuple
    pools_before: bool  # phi and g, or after them
    scales: bool  # the embedded Gaussian's exponent by d^-1/2
    output_bias: bool  # in W_z


CONVENTIONS = {
    "PySlowFast": Convention(("embedded_gaussian", "dot_product"), True, True, True),
    "AlexHex7": Convention(MODES, False, False, True),
    "mmcv": Convention(MODES, False, True, False),
}


class Case(NamedTuple):
    """A block and its input, `frames` x `height` x `width` x `channels`."""

    mode: str
    convention: str  # of `CONVENTIONS`
    dtype: str
    frames: int
    height: int
    width: int
    channels: int

    @property
    def shape(self):
        return (1, *self[3:])

    @property
    def op_shape(self):
        """Keys are sub-sampled by 2 in space, channels halved."""
        keys = self.frames * (self.height // 2) * (self.width // 2)
        queries = self.frames * self.height * self.width
        return OpShape(queries, keys, self.channels // 2)


# === In the process of a subject ===


def make_ours(case, weights=None):
    """`NonLocal3D`, with the weights of the file `weights`; gamma is 1 without them.

    The values are z of inference; z, dx and all weights' gradients as one vector.
    """
    import tensorflow as tf

    case = Case(*case)
    layer, variables = _our_layer(case, weights)
    x, dz = (tf.cast(tf.constant(t), case.dtype) for t in clip(case))
    variables = [variable.value for variable in variables]

    @tf.function
    def inference(x):
        return layer(x, training=False)

    @tf.function
    def training(x, dz):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = layer(x, training=True)
        return z, *tape.gradient(z, [x, *variables], dz)

    def values():
        results = inference(x), *training(x, dz)
        arrays = [tf.cast(t, "float32").numpy() for t in results]
        return [*arrays[:3], one_vector(arrays[3:])]

    steps = {"inference": lambda: inference(x), "training": lambda: training(x, dz)}
    return Made(steps, values)


def make_training(case):
    """The training step of `make_ours` alone; values are whether its results are
    finite."""
    step = make_ours(case).steps["training"]
    return Made({"training": step}, lambda: [np.isfinite(t) for t in step()])


def _our_layer(case, weights):
    from keras_nonlocal import NonLocal3D

    convention = CONVENTIONS[case.convention]
    layer = NonLocal3D(
        case.mode,
        pool_position="before" if convention.pools_before else "after",
        use_scale=convention.scales,
        use_output_bias=convention.output_bias,
        normalization_options={"gamma_initializer": "ones"},
        dtype="float32" if case.dtype == "float32" else f"mixed_{case.dtype}",
    )
    layer.build(case.shape)
    if weights is None:
        return layer, layer.trainable_variables
    variables = []
    with np.load(weights) as file:
        for name, weight in file.items():
            variables.append(_variable(layer, *name.split(".")))
            variables[-1].assign(as_keras(weight))
    return layer, variables


def clip(case):
    """x and dz."""
    rng = np.random.default_rng(0)
    return [eighths(rng, case.shape) for _ in ("x", "dz")]


def as_keras(array):
    """Transposes a convolution's (out, in, 1, 1, 1) to (in, out), not vectors."""
    return array.reshape(array.shape[:2]).T if array.ndim > 1 else array


def one_vector(arrays):
    """Some gradients are zero in theory: only all weights together have a scale."""
    return np.concatenate([array.ravel() for array in arrays])


def _variable(layer, sublayer, kind):
    names = {"weight": "kernel", "bias": "bias"}
    if sublayer == "norm":
        names = {"weight": "gamma", "bias": "beta"}
    return getattr(getattr(layer, sublayer), names[kind])
