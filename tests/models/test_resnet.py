"""Forward values against a PyTorch version written from the published definitions."""

import keras
import numpy as np
import pytest

from keras_nonlocal.models import C2D, I3D

pytestmark = pytest.mark.backends  # for PyTorch

# Kernel, strides and padding of the pools: (C2D 8x8, C2D 32x2, I3D 8x8, I3D 32x2).
POOL1 = {
    "video_nonlocal_net": [
        ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
        ((2, 3, 3), (2, 2, 2), (0, 0, 0)),
        ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
        ((2, 3, 3), (2, 2, 2), (0, 0, 0)),
    ],
    "pyslowfast": [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((2, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((2, 3, 3), (2, 2, 2), (0, 1, 1)),
    ],
    "mmaction2": [
        ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
        ((1, 3, 3), (2, 2, 2), (0, 0, 0)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((1, 3, 3), (2, 2, 2), (0, 1, 1)),
    ],
    "gluoncv": [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((1, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((1, 3, 3), (2, 2, 2), (0, 1, 1)),
    ],
    "paper": [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ],
}
POOL2 = dict.fromkeys(POOL1, ((2, 1, 1), (2, 1, 1), (0, 0, 0)))
POOL2["paper"] = ((3, 1, 1), (2, 1, 1), (1, 0, 0))
# Non-local blocks: keys pooled before or after phi and g, or not; scaled.
NON_LOCAL = {
    "video_nonlocal_net": ("before", True),
    "pyslowfast": ("before", True),
    "mmaction2": ("after", False),
    "gluoncv": (None, True),
    "paper": ("after", False),
}


class TorchNetwork:
    """The network by layer names and weights; tensors are (B, C, T, H, W)."""

    def __init__(self, model, convention, architecture, stem):
        import torch

        self.torch, self.functional = torch, torch.nn.functional
        self.weights = {
            weight.path: torch.tensor(keras.ops.convert_to_numpy(weight))
            for weight in model.weights
        }
        variant = 2 * (architecture == "i3d") + (stem == "32x2")
        self.pool1 = POOL1[convention][variant]
        self.pool2 = POOL2[convention]
        self.pool_position, self.scaled = NON_LOCAL[convention]
        self.temporal_stride = 2 if stem == "32x2" else 1

    def __call__(self, clips):
        x = self.torch.tensor(clips).permute(0, 4, 1, 2, 3)
        x = self.functional.relu(self.conv_bn(x, "conv1", (self.temporal_stride, 2, 2)))
        x = self.functional.max_pool3d(x, *self.pool1)
        for stage in (2, 3, 4, 5):
            x = self.stage(x, f"res{stage}", 1 if stage == 2 else 2)
            if stage == 2:
                x = self.functional.max_pool3d(x, *self.pool2)
        x = x.mean((2, 3, 4))
        return (x @ self.weights["pred/kernel"] + self.weights["pred/bias"]).numpy()

    def stage(self, x, name, stride):
        i = 0
        while f"{name}_{i}_branch2a/kernel" in self.weights:
            x = self.residual(x, f"{name}_{i}", (1, stride if i == 0 else 1))
            if f"{name}_{i}_nonlocal/g/kernel" in self.weights:
                x = self.non_local(x, f"{name}_{i}_nonlocal")
            i += 1
        return x

    def residual(self, x, name, stride):
        strides = (1, stride[1], stride[1])
        y = self.functional.relu(self.conv_bn(x, f"{name}_branch2a"))
        y = self.functional.relu(self.conv_bn(y, f"{name}_branch2b", strides))
        y = self.conv_bn(y, f"{name}_branch2c")
        if name.endswith("_0"):
            x = self.conv_bn(x, f"{name}_branch1", strides)
        return self.functional.relu(x + y)

    def conv_bn(self, x, name, strides=(1, 1, 1)):
        kernel = self.weights[f"{name}/kernel"].permute(4, 3, 0, 1, 2)
        padding = [size // 2 for size in kernel.shape[2:]]
        return self.norm(
            self.functional.conv3d(x, kernel, None, strides, padding), f"{name}_bn"
        )

    def norm(self, x, name):
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        weights = [self.weights[f"{name}/{key}"] for key in names]
        return self.functional.batch_norm(x, *weights, eps=1e-5)

    def project(self, x, name):
        kernel = self.weights[f"{name}/kernel"].T[:, :, None, None, None]
        return self.functional.conv3d(x, kernel, self.weights.get(f"{name}/bias"))

    def non_local(self, x, name):
        def pool(t):
            return self.functional.max_pool3d(t, (1, 2, 2))

        keys = pool(x) if self.pool_position == "before" else x
        theta, phi, g = (
            self.project(t, f"{name}/{key}")
            for t, key in ((x, "theta"), (keys, "phi"), (keys, "g"))
        )
        if self.pool_position == "after":
            phi, g = pool(phi), pool(g)
        scores = self.torch.einsum("bcn,bcm->bnm", theta.flatten(2), phi.flatten(2))
        scores = scores * theta.shape[1] ** -0.5 if self.scaled else scores
        y = self.torch.einsum("bnm,bcm->bcn", scores.softmax(-1), g.flatten(2))
        y = y.reshape(theta.shape)
        return x + self.norm(self.project(y, f"{name}/w_z"), f"{name}/norm")


def check_against_torch(randomize, convention, architecture, stem, depth, **options):
    build = {"c2d": C2D, "i3d": I3D}[architecture]
    frames, height, width = (16 if stem == "32x2" else 4), 66, 51
    model = randomize(
        build(
            depth,
            7,
            (frames, height, width, 3),
            stem=stem,
            non_local={"res2": [0], "res3": [0], "res4": [0]},
            convention=convention,
            width=8,
            **options,
        )
    )
    clips = np.random.default_rng(1).normal(size=(2, frames, height, width, 3))
    clips = clips.astype("float32")
    expected = TorchNetwork(model, convention, architecture, stem)(clips)
    logits = keras.ops.convert_to_numpy(model(clips))
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    assert expected.std() > 0.1


@pytest.mark.parametrize("convention", POOL1)
@pytest.mark.parametrize(
    "architecture, stem",
    [("c2d", "8x8"), ("i3d", "32x2"), ("c2d", "32x2"), ("i3d", "8x8")],
)
def test_logits_equal_pytorch(randomize, convention, architecture, stem):
    check_against_torch(randomize, convention, architecture, stem, 14)


def test_logits_equal_pytorch_with_3x3x3_kernels(randomize):
    check_against_torch(
        randomize, "video_nonlocal_net", "i3d", "8x8", 26, temporal_kernel="3x3x3"
    )
