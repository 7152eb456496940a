"""The forms in which a network is measured: the peer's and ours, by kind of step."""

import importlib
from typing import NamedTuple

from harness.networks import backend


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
    return OURS[kind][key] if key in OURS[kind] else THEIRS[kind][key].label


def build(kind, key, case, state=None):
    """The `Step` of a form.

    Args:
        kind: `"inference"` or `"training"`.
        key: Of `THEIRS[kind]` or `OURS[kind]`.
        case: `networks.Case`.
        state: The peer's weights, for ours; None: weights of their own.
    """
    if key in OURS[kind]:
        return getattr(_ours(), kind)(key, case, state)
    module = importlib.import_module("harness.network_torch")
    return getattr(module, kind)(THEIRS[kind][key], case)


def exports(kind, key):
    """The module that has `export` and `load` for this form, or None."""
    is_ours = kind == "inference" and key in OURS[kind]
    return _ours() if is_ours and backend() == "tensorflow" else None


def _ours():
    return importlib.import_module(f"harness.network_{backend()}")
