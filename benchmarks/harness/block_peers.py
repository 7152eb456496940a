"""Non-local blocks in PyTorch, written from the formulas that others published."""

import numpy as np
import torch

from harness.block import CONVENTIONS, Case, as_keras, clip, one_vector
from harness.operation import published
from harness.process import THREADS, Made


def make(case, channels_last=False, compiled=False):
    """A block in this memory layout; values as of `block.make_ours`."""
    torch.set_num_threads(THREADS)
    case = Case(*case)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format

    def tensor(array):
        array = torch.from_numpy(np.moveaxis(array, -1, 1).copy())
        return array.to(getattr(torch, case.dtype)).to(memory_format=layout)

    block = seeded_block(case.channels, case.mode, CONVENTIONS[case.convention])
    block = block.to(getattr(torch, case.dtype)).to(memory_format=layout)
    x, dz = map(tensor, clip(case))
    leaves = [x.requires_grad_(), *block.parameters()]
    run = torch.compile(block, dynamic=False) if compiled else block

    def inference():
        block.eval()
        with torch.no_grad():
            return run(x)

    def training():
        block.train()
        z = run(x)
        return z.detach(), *torch.autograd.grad(z, leaves, dz)

    def values():
        arrays = [t.float().numpy() for t in (inference(), *training())]
        maps = [np.moveaxis(t, 1, -1) for t in arrays[:3]]
        return [*maps, one_vector([as_keras(t) for t in arrays[3:]])]

    return Made({"inference": inference, "training": training}, values)


class Block(torch.nn.Module):
    """z = BN(W_z y) + x over `(B, C, T, H, W)`, with keys pooled by 2 in space."""

    def __init__(self, channels, mode, convention):
        super().__init__()
        d = channels // 2
        self.mode, self.convention = mode, convention
        self.theta = self.phi = None
        if mode != "gaussian":
            self.theta = torch.nn.Conv3d(channels, d, 1)
            self.phi = torch.nn.Conv3d(channels, d, 1)
        self.g = torch.nn.Conv3d(channels, d, 1)
        if mode == "concatenation":
            self.concat_projection = torch.nn.Linear(2 * d, 1, bias=False)
        self.w_z = torch.nn.Conv3d(d, channels, 1, bias=convention.output_bias)
        self.norm = torch.nn.BatchNorm3d(channels)
        self.pool = torch.nn.MaxPool3d((1, 2, 2))

    def forward(self, x):
        theta, phi, g = (t.flatten(2) for t in self._embed(x))  # (B, d, N or M)
        y = self._mix(theta.transpose(1, 2), phi, g.transpose(1, 2))  # (B, N, d)
        y = y.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        return self.norm(self.w_z(y)) + x

    def _embed(self, x):
        theta, phi = self.theta or _same, self.phi or _same
        if self.convention.pools_before:
            keys = self.pool(x)
            return theta(x), phi(keys), self.g(keys)
        return theta(x), self.pool(phi(x)), self.pool(self.g(x))

    def _mix(self, theta, phi, g):
        if self.mode == "concatenation":
            kernel = self.concat_projection.weight.reshape(-1, 1)
            return published(self.mode, theta, phi, g, kernel)
        unscaled = "gaussian" in self.mode and not self.convention.scales
        return published("gaussian" if unscaled else self.mode, theta, phi, g)


def seeded_block(channels, mode, convention):
    """A block with the same weights every time, on which rounding has little effect.

    Biases are 0: batch norm would subtract those of g and W_z again, with a loss of
    digits. Exponents vary by about 2: batch norm would amplify a uniform attention to
    noise, and a saturated one has no gradient.
    """
    torch.manual_seed(0)
    block = Block(channels, mode, convention)
    variance = 2 if convention.scales else 2 / (channels // 2) ** 0.5  # of theta, phi
    for name, parameter in block.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        elif name in ("theta.weight", "phi.weight"):
            torch.nn.init.normal_(parameter, std=(variance / channels) ** 0.5)
    return block


def save_weights(case, path):
    """Writes the weights of `seeded_block` by their names."""
    case = Case(*case)
    block = seeded_block(case.channels, case.mode, CONVENTIONS[case.convention])
    np.savez(path, **{k: v.detach().numpy() for k, v in block.named_parameters()})


def _same(x):
    return x
