"""The measured networks, their forms, and their input clips."""

import math
from typing import NamedTuple

import numpy as np

NETWORKS = ("C2D", "I3D", "NL-C2D", "NL-I3D")
# Residual blocks that a non-local block follows, by depth: the paper's five, and
# for the tiny network two.
BLOCKS = {
    14: {"res3": (0,), "res4": (0,)},
    50: {"res3": (1, 3), "res4": (1, 3, 5)},
    101: {"res3": (1, 3), "res4": (6, 13, 20)},
}
CLASSES = 400
MEAN, STD = 114.75, 57.375  # of the pixels, 0-255
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
PASSES = {"inference": 1, "training": 3}  # in units of the forward pass


class TorchForm(NamedTuple):
    """One way to run the peer's network."""

    label: str
    channels_last: bool = False
    compile: dict | None = None  # options of torch.compile
    autocast: bool = False  # weights in float32, else in the dtype


_EAGER = {
    "eager": TorchForm("PyTorch, eager"),
    "channels_last": TorchForm("PyTorch, channels last", True),
    "compile": TorchForm("torch.compile", False, {}),
}
THEIRS = {
    "inference": _EAGER
    | {
        "freeze": TorchForm(
            "torch.compile, freezing, channels last", True, {"freezing": True}
        ),
    },
    "training": _EAGER
    | {
        "compile_channels_last": TorchForm("torch.compile, channels last", True, {}),
        "autocast": TorchForm("PyTorch, autocast, channels last", True, None, True),
    },
}
OURS = {
    "inference": {
        "plain": "ours, Keras layers",
        "folded": "ours, batch norm folded",
        "constants": "ours, folded, weights as constants",
    },
    "training": {"step": "ours"},
}


def label(kind, key):
    """Of a form, as tables show it."""
    return OURS[kind][key] if key in OURS[kind] else THEIRS[kind][key].label


class Case(NamedTuple):
    """A network and its clips, the same for all forms."""

    network: str
    dtype: str
    depth: int
    width: int
    batch: int
    frames: int
    side: int
    recompute: bool = False  # blocks' activations in the backward pass

    @property
    def is_inflated(self):
        return self.network.endswith("I3D")

    @property
    def blocks(self):
        """Stage to the residual blocks that a non-local block follows, or None."""
        return BLOCKS[self.depth] if self.network.startswith("NL-") else None

    @property
    def smallest(self):
        """A tiny case of the same kind, which loads libraries and starts threads."""
        return self._replace(depth=14, width=8, batch=1, frames=4, side=32)


def pixels(case):
    """uint8 `(B, T, H, W, 3)`: squares of 16 x 16 pixels, with noise."""
    rng = np.random.default_rng(0)
    squares = math.ceil(case.side / 16)
    shape = (case.batch, case.frames, squares, squares, 3)
    maps = rng.integers(0, 256, shape).repeat(16, axis=2).repeat(16, axis=3)
    maps = maps[:, :, : case.side, : case.side]
    return np.clip(maps + rng.integers(-32, 33, maps.shape), 0, 255).astype("uint8")


def clips(case):
    """float32 `(B, T, H, W, 3)`: the pixels, normalised."""
    return ((pixels(case) - MEAN) / STD).astype("float32")


def labels(case):
    """int32 `(B,)`."""
    return np.arange(case.batch, dtype="int32") % CLASSES


def model_options(case):
    """The arguments of `C2D` or `I3D`, as in a config.

    Without dropout: frameworks draw different masks, and its cost is negligible.
    """
    return {
        "depth": case.depth,
        "width": case.width,
        "num_classes": CLASSES,
        "non_local": case.blocks,
        "convention": "pyslowfast",
        "dropout_rate": 0.0,
    }


def our_model(case, weights=None):
    """`C2D` or `I3D` with the policy of the dtype, and weights as for `fill`."""
    import keras

    from keras_nonlocal.models import build

    keras.config.set_dtype_policy(POLICIES[case.dtype])
    shape = (case.frames, case.side, case.side, 3)
    name = "i3d" if case.is_inflated else "c2d"
    return fill(build(name, input_shape=shape, **model_options(case)), weights)


def fill(model, weights):
    """Loads the file that `network_torch.save_weights` wrote, if any; returns the
    model."""
    if weights is not None:
        from keras_nonlocal.convert import load_weights

        with np.load(weights) as file:
            load_weights(model, dict(file), source="pyslowfast")
    return model


def operations(kind, case):
    """Of a step over the batch: two a multiply-add, as `describe` counts them."""
    import keras

    from keras_nonlocal.models import describe

    keras.config.disable_traceback_filtering()  # it wraps messages, too
    case = Case(*case)
    macs = describe(our_model(case._replace(dtype="float32"))).macs.total
    return 2 * PASSES[kind] * case.batch * macs
