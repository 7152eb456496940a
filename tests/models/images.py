"""ResNet and feature pyramid in float64 NumPy, from a model's weights by path."""

import numpy as np

from tests.backends import to_numpy


class NumpyNetwork:
    """The published definitions; images are (B, H, W, C)."""

    def __init__(self, model, epsilon=1e-5, stride_in_1x1=False):
        self.weights = {w.path: to_numpy(w).astype("float64") for w in model.weights}
        self.epsilon = epsilon
        self.stride_in_1x1 = stride_in_1x1

    def backbone(self, images):
        """C2 to C5."""
        x = np.maximum(self.conv_bn(images.astype("float64"), "conv1", 2), 0)
        x = max_pool(x, 3, 2, pad=1)
        maps = []
        for stage in (2, 3, 4, 5):
            x = self.stage(x, f"res{stage}", 1 if stage == 2 else 2)
            maps.append(x)
        return maps

    def stage(self, x, name, stride):
        i = 0
        while f"{name}_{i}_branch2a/kernel" in self.weights:
            x = self.residual(x, f"{name}_{i}", stride if i == 0 else 1)
            if f"{name}_{i}_nonlocal/g/kernel" in self.weights:
                x = self.non_local(x, f"{name}_{i}_nonlocal")
            i += 1
        return x

    def residual(self, x, name, stride):
        first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
        y = np.maximum(self.conv_bn(x, f"{name}_branch2a", first), 0)
        y = np.maximum(self.conv_bn(y, f"{name}_branch2b", second), 0)
        y = self.conv_bn(y, f"{name}_branch2c")
        if name.endswith("_0"):
            x = self.conv_bn(x, f"{name}_branch1", stride)
        return np.maximum(x + y, 0)

    def non_local(self, x, name):
        """The released code's: keys pooled first, scaled softmax."""
        keys = max_pool(x, 2, 2)
        theta, phi, g = (
            self.project(t, f"{name}/{part}").reshape(len(x), -1, x.shape[-1] // 2)
            for t, part in ((x, "theta"), (keys, "phi"), (keys, "g"))
        )
        scores = theta @ phi.transpose(0, 2, 1) * theta.shape[-1] ** -0.5
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = scores / scores.sum(-1, keepdims=True) @ g
        y = self.project(y.reshape(*x.shape[:-1], -1), f"{name}/w_z")
        return x + self.norm(y, f"{name}/norm", 1e-5)

    def project(self, x, name):
        return x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]

    def conv_bn(self, x, name, stride=1):
        y = conv(x, self.weights[f"{name}/kernel"], stride)
        return self.norm(y, f"{name}_bn", self.epsilon)

    def norm(self, x, name, epsilon):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (self.weights[f"{name}/{key}"] for key in names)
        return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta

    def pyramid(self, maps):
        """P2 to P6."""
        above, outputs = None, []
        for level in (5, 4, 3, 2):
            x = self.fpn_conv(maps[level - 2], f"fpn_lateral{level}")
            if above is not None:
                x = x + upsample(above, x.shape[1:3])
            above = x
            outputs.insert(0, self.fpn_conv(x, f"fpn_output{level}"))
        return [*outputs, outputs[-1][:, ::2, ::2]]

    def fpn_conv(self, x, name):
        y = conv(x, self.weights[f"{name}/kernel"], 1)
        if f"{name}/bias" in self.weights:
            return y + self.weights[f"{name}/bias"]
        return self.norm(y, f"{name}_bn", 1e-5)


def conv(x, kernel, stride):
    """k // 2 zeros on both sides; groups where the kernel has fewer channels."""
    pad = kernel.shape[0] // 2
    windows = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(
        windows, kernel.shape[:2], axis=(1, 2)
    )[:, ::stride, ::stride]  # (B, H, W, C, h, w)
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(
        np.split(windows, groups, axis=3), np.split(kernel, groups, axis=3), strict=True
    )
    return np.concatenate(
        [np.tensordot(part, k, ((4, 5, 3), (0, 1, 2))) for part, k in parts], axis=-1
    )


def max_pool(x, size, stride, pad=0):
    pads = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
    x = np.pad(x, pads, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return windows[:, ::stride, ::stride].max((-2, -1))


def upsample(x, sizes):
    """PyTorch's "nearest" to a size: source floor(i * in / out)."""
    rows, columns = (
        np.arange(size) * have // size
        for size, have in zip(sizes, x.shape[1:3], strict=True)
    )
    return x[:, rows][:, :, columns]
