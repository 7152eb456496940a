"""PySlowFast's C2D and I3D in PyTorch, written from its published configuration.

Clips are (B, C, T, H, W). Parameters are named as its checkpoints have them, so that
`keras_nonlocal.convert.load_weights` reads a state dict of these.
"""

import functools
from collections import OrderedDict

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

DEPTHS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Taps in time of a block's first convolution, over and over, in s2 to s5.
I3D_TAPS = ((3,), (3, 1), (3, 1), (1, 3))
C2D_TAPS = ((1,),) * 4
EXPANSION = 4


def build(case, classes):
    """The network of a `Case`, in float32, with the same weights every time."""
    torch.manual_seed(0)
    network = _sequential(_parts(case, classes))
    for name, parameter in network.named_parameters():
        _draw(name, parameter)
    return network


def recompute(network):
    """Blocks keep only their inputs, and run again in the backward pass."""
    for block in network.modules():
        if isinstance(block, (Bottleneck, NonLocal)):
            block.forward = functools.partial(
                checkpoint, block.forward, use_reentrant=False
            )


def _parts(case, classes):
    width, conv1_taps = case.width, 5 if case.is_inflated else 1
    taps = I3D_TAPS if case.is_inflated else C2D_TAPS
    parts = {"s1": _sequential({"pathway0_stem": _stem(width, conv1_taps)})}
    inputs = width
    for i, count in enumerate(DEPTHS[case.depth]):
        outputs = EXPANSION * width * 2**i
        blocks = (case.blocks or {}).get(f"res{i + 2}", ())
        stride = 1 if i == 0 else 2
        parts[f"s{i + 2}"] = _stage(inputs, outputs, count, stride, taps[i], blocks)
        if i == 0:
            parts["pathway0_pool"] = nn.MaxPool3d((2, 1, 1))
        inputs = outputs
    return parts | {"head": Head(inputs, classes)}


def _stem(width, taps):
    return _sequential(
        {
            "conv": _conv(3, width, (taps, 7, 7), stride=2),
            "bn": nn.BatchNorm3d(width),
            "relu": nn.ReLU(inplace=True),
            "pool": nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        }
    )


def _stage(inputs, outputs, count, stride, taps, blocks):
    layers = {}
    for i in range(count):
        layers[f"pathway0_res{i}"] = Bottleneck(
            inputs, outputs, taps[i % len(taps)], stride if i == 0 else 1
        )
        if i in blocks:
            layers[f"pathway0_nonlocal{i}"] = NonLocal(outputs)
        inputs = outputs
    return _sequential(layers)


class Bottleneck(nn.Module):
    """ReLU(F(x) + shortcut); F = taps x 1 x 1, 3x3 with the stride, 1x1x1."""

    def __init__(self, inputs, outputs, taps, stride):
        super().__init__()
        width = outputs // EXPANSION
        if inputs != outputs or stride > 1:
            self.branch1 = _conv(inputs, outputs, (1, 1, 1), stride)
            self.branch1_bn = nn.BatchNorm3d(outputs)
        self.branch2 = _sequential(
            {
                "a": _conv(inputs, width, (taps, 1, 1)),
                "a_bn": nn.BatchNorm3d(width),
                "a_relu": nn.ReLU(inplace=True),
                "b": _conv(width, width, (1, 3, 3), stride),
                "b_bn": nn.BatchNorm3d(width),
                "b_relu": nn.ReLU(inplace=True),
                "c": _conv(width, outputs, (1, 1, 1)),
                "c_bn": nn.BatchNorm3d(outputs),
            }
        )

    def forward(self, x):
        shortcut = self.branch1_bn(self.branch1(x)) if hasattr(self, "branch1") else x
        return torch.relu_(shortcut + self.branch2(x))


class NonLocal(nn.Module):
    """x + BN(out(softmax(theta phi / sqrt(d)) g)), keys pooled by 2 in space."""

    def __init__(self, channels):
        super().__init__()
        d = channels // 2
        self.pool = nn.MaxPool3d((1, 2, 2))
        for name in ("theta", "phi", "g"):
            setattr(self, f"conv_{name}", nn.Conv3d(channels, d, 1))
        self.conv_out = nn.Conv3d(d, channels, 1)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, x):
        keys = self.pool(x)
        theta = self.conv_theta(x).flatten(2)  # (B, d, N)
        phi, g = (conv(keys).flatten(2) for conv in (self.conv_phi, self.conv_g))
        f = torch.einsum("bdn,bdm->bnm", theta, phi) * theta.shape[1] ** -0.5
        y = torch.einsum("bnm,bdm->bdn", torch.softmax(f, dim=2), g)
        return x + self.bn(self.conv_out(y.reshape(*y.shape[:2], *x.shape[2:])))


class Head(nn.Module):
    """Logits of the mean over time and space."""

    def __init__(self, channels, classes):
        super().__init__()
        self.projection = nn.Linear(channels, classes)

    def forward(self, x):
        return self.projection(x.mean((2, 3, 4)))


def _sequential(named):
    return nn.Sequential(OrderedDict(named))


def _conv(inputs, outputs, kernel, stride=1):
    """Without bias; strides in space, and pads k // 2 on every side."""
    padding = tuple(size // 2 for size in kernel)
    strides = (1, stride, stride)
    return nn.Conv3d(inputs, outputs, kernel, strides, padding, bias=False)


def _draw(name, parameter):
    """Weights with which activations neither grow nor vanish, also in blocks."""
    is_last = "c_bn" in name or "nonlocal" in name
    if parameter.ndim > 1:
        nn.init.kaiming_normal_(parameter)
    elif "bn." in name and name.endswith("weight"):
        nn.init.constant_(parameter, 0.3 if is_last else 1.0)
    else:  # not zero, as after training: a compiler may skip zeros
        nn.init.normal_(parameter, std=0.05)
