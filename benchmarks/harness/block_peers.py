"""Non-local blocks in PyTorch, written from the formulas that others published."""

import torch

from harness.op_peers import published


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


def _same(x):
    return x
