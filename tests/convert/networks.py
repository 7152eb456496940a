"""Weights as the projects save them, and what their networks compute with them."""

import keras
import numpy as np

from keras_nonlocal.convert.targets import find_targets


def draw_state(model, spell, image=False):
    """Random weights for `model`, under the names and in the layout of a project.

    Args:
        model: Of ours: says which weights there are.
        spell: From our path to the project's name.
        image: Kernels (O, I, H, W), of a network for images.
    """
    rng = np.random.default_rng(0)
    state = {}
    for path, target in find_targets(model).items():
        shape = _torch_shape(path, target.shape)
        if path.endswith(("gamma", "moving_variance")):
            array = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            array = rng.normal(0, 0.1, shape)
        else:
            array = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        if image and array.ndim == 5:
            array = array[:, :, 0]
        state[spell(path)] = array.astype("float32")
    return state


def _torch_shape(path, shape):
    if len(shape) == 5:
        taps, height, width, inputs, outputs = shape
        return outputs, inputs, taps, height, width
    if len(shape) == 2:
        ones = (1, 1) if "concat" in path else (1, 1, 1)
        return (*shape[::-1], *ones[: 3 * ("nonlocal" in path)])
    return shape


def numpy(x):
    return keras.ops.convert_to_numpy(x)


class TorchNetwork:
    """A project's network on its own weights; tensors are (B, C, T, H, W).

    Args:
        state: The weights.
        spell: From our path to the project's name.
        pool1: Kernel, strides and padding.
        strides: Of conv1 in time.
        mode, pool_position, scaled, groups: Of the non-local blocks; `groups` is
            the number of frames that attend to one another, by stage.
    """

    def __init__(
        self,
        state,
        spell,
        pool1,
        *,
        stride=1,
        mode="embedded_gaussian",
        pool_position="before",
        scaled=True,
        groups=(),
    ):
        import torch

        self.torch = torch
        self.weights = {name: self.torch.tensor(x) for name, x in state.items()}
        self.spell = spell
        self.pool1 = pool1
        self.stride = stride
        self.mode = mode
        self.pool_position = pool_position
        self.scaled = scaled
        self.groups = dict(groups)

    def __call__(self, clips):
        """Logits of clips (B, T, H, W, C)."""
        x = self.torch.tensor(self.features(clips)["res5"]).mean((1, 2, 3))
        head = self.get("pred/kernel"), self.get("pred/bias")
        return self.torch.nn.functional.linear(x, *head).numpy()

    def features(self, clips):
        """What the stages give, (B, T, H, W, C), by name."""
        max_pool = self.torch.nn.functional.max_pool3d
        x = self.torch.tensor(clips).permute(0, 4, 1, 2, 3)
        x = self.conv_bn(x, "conv1", (self.stride, 2, 2)).relu()
        x = max_pool(x, *self.pool1)
        features = {}
        for stage in ("res2", "res3", "res4", "res5"):
            x = self.run_stage(x, stage, 1 if stage == "res2" else 2)
            features[stage] = x.permute(0, 2, 3, 4, 1).numpy()
            if stage == "res2":
                x = max_pool(x, (2, 1, 1))
        return features

    def get(self, path):
        return self.weights.get(self.spell(path))

    def run_stage(self, x, name, stride):
        i = 0
        while self.get(f"{name}_{i}_branch2a/kernel") is not None:
            x = self.residual(x, f"{name}_{i}", stride if i == 0 else 1)
            if self.get(f"{name}_{i}_nonlocal/g/kernel") is not None:
                x = self.non_local(x, f"{name}_{i}_nonlocal", self.groups.get(name))
            i += 1
        return x

    def residual(self, x, name, stride):
        y = self.conv_bn(x, f"{name}_branch2a").relu()
        y = self.conv_bn(y, f"{name}_branch2b", (1, stride, stride)).relu()
        y = self.conv_bn(y, f"{name}_branch2c")
        if name.endswith("_0"):
            x = self.conv_bn(x, f"{name}_branch1", (1, stride, stride))
        return (x + y).relu()

    def conv_bn(self, x, name, strides=(1, 1, 1)):
        kernel = self.get(f"{name}/kernel")
        if kernel.ndim == 4:
            kernel = kernel[:, :, None]
        padding = [size // 2 for size in kernel.shape[2:]]
        x = self.torch.nn.functional.conv3d(x, kernel, None, strides, padding)
        return self.norm(x, f"{name}_bn")

    def norm(self, x, name):
        """Batch normalisation, an affine layer, or nothing, by what there is."""
        scale, bias = self.get(f"{name}/gamma"), self.get(f"{name}/beta")
        mean, variance = (
            self.get(f"{name}/moving_{kind}") for kind in ("mean", "variance")
        )
        if scale is None:
            return x
        if mean is not None:
            normalize = self.torch.nn.functional.batch_norm
            return normalize(x, mean, variance, scale, bias, eps=1e-5)
        return x * scale[:, None, None, None] + bias[:, None, None, None]

    def project(self, x, name):
        kernel, bias = self.get(f"{name}/kernel"), self.get(f"{name}/bias")
        return self.torch.nn.functional.conv3d(x, kernel, bias)

    def non_local(self, x, name, group):
        """Over all frames, or over each `group` of them."""
        frames = x.shape[2]
        parts = x.split(group or frames, dim=2)
        y = self.torch.cat([self.attend(part, name) for part in parts], dim=2)
        return x + self.norm(self.project(y, f"{name}/w_z"), f"{name}/norm")

    def attend(self, x, name):
        def pool(t):
            kernel = (1, 1, 1) if self.pool_position is None else (1, 2, 2)
            return self.torch.nn.functional.max_pool3d(t, kernel)

        keys = pool(x) if self.pool_position == "before" else x
        theta, phi, g = (x, keys, self.project(keys, f"{name}/g"))
        if self.mode != "gaussian":
            theta = self.project(x, f"{name}/theta")
            phi = self.project(keys, f"{name}/phi")
        if self.pool_position == "after":
            phi, g = pool(phi), pool(g)
        weights = self.pairwise(theta.flatten(2), phi.flatten(2), name)
        y = self.torch.einsum("bnm,bcm->bcn", weights, g.flatten(2))
        return y.reshape(len(y), -1, *x.shape[2:])

    def pairwise(self, theta, phi, name):
        """f(x_i, x_j) / C, (B, N, M), from (B, d, N) and (B, d, M)."""
        num_keys = phi.shape[2]
        if self.mode == "concatenation":
            pairs = self.torch.cat(
                [
                    theta[:, :, :, None].expand(-1, -1, -1, num_keys),
                    phi[:, :, None, :].expand(-1, -1, theta.shape[2], -1),
                ],
                dim=1,
            )
            kernel = self.get(f"{name}/concat_projection/kernel")
            scores = self.torch.nn.functional.conv2d(pairs, kernel)
            return scores[:, 0].relu() / num_keys
        scores = self.torch.einsum("bcn,bcm->bnm", theta, phi)
        if self.mode == "dot_product":
            return scores / num_keys
        return (scores * (theta.shape[1] ** -0.5 if self.scaled else 1)).softmax(-1)
