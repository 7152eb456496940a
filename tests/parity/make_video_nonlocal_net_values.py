"""Writes video_nonlocal_net.npz: the authors' networks on seeded weights.

facebookresearch/video-nonlocal-net needs Caffe2, which no longer exists. This computes
its networks in PyTorch from the published definitions, by the names of Caffe2:

    python tests/parity/make_video_nonlocal_net_values.py
"""

import dataclasses

import recording
import torch
from torch.nn import functional

EPSILON = 1e-5
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
FIVE = {50: {3: (1, 3), 4: (1, 3, 5)}, 101: {3: (1, 3), 4: (6, 13, 20)}}
SHARP = {"_theta_w": 1.5, "_phi_w": 1.5}
CALM = {"_theta_w": 0.3, "_phi_w": 0.3}


@dataclasses.dataclass(frozen=True)
class Network:
    """One of the released networks.

    Attributes:
        size: Of the clip.
        depth: 50 or 101.
        i3d: conv1 and about every second block reach over time.
        non_local: Stage to the blocks that a non-local block follows.
        long_stem: conv1 and pool1 have stride 2 in time (32x2).
        affine: Frozen scales and biases instead of batch normalisation, none of
            them in non-local blocks, which attend within 4 frames in res3.
        softmax: Of the affinities; else they are divided by the number of keys.
        scales: Part of a blob's name to a factor.
    """

    size: str = "8x224x224"
    depth: int = 50
    i3d: bool = True
    non_local: dict = dataclasses.field(default_factory=dict)
    long_stem: bool = False
    affine: bool = False
    softmax: bool = True
    scales: dict = dataclasses.field(default_factory=dict)

    def taps(self, stage, block):
        """Frames under branch2a: res2 all, res5 the middle one, else even ones."""
        inflated = stage == 2 or block % 2 == (stage == 5)
        return 3 if self.i3d and inflated else 1


NETWORKS = {
    "c2d_r50": Network(i3d=False),
    "c2d_nl5_r50": Network(i3d=False, non_local=FIVE[50], scales=SHARP),
    "i3d_r50": Network(),
    "i3d_nl5_r50": Network(non_local=FIVE[50], scales=SHARP),
    "i3d_nl5_r50_dot_product": Network(non_local=FIVE[50], softmax=False, scales=CALM),
    "i3d_nl5_r50_32x2": Network(
        "32x224x224", non_local=FIVE[50], long_stem=True, scales=SHARP
    ),
    # 8 frames remain in res3: two groups.
    "i3d_nl5_r50_affine": Network(
        "16x96x96", non_local=FIVE[50], affine=True, scales=SHARP
    ),
    "i3d_nl5_r101": Network(depth=101, non_local=FIVE[101], scales=SHARP),
}


def shapes(network):
    """Name to shape of every blob in a checkpoint of training."""
    found = dict(_weights(network))
    trained = [n for n in found if not n.endswith(("_rm", "_riv"))]
    if network.affine:
        trained = [name for name in trained if "_bn_" not in name]
    found |= {f"{name}_momentum": found[name] for name in trained}
    return found | {"lr": (1,), "model_iter": (1,)}


def _weights(network):
    yield "conv1_w", (64, 3, 5 if network.i3d else 1, 7, 7)
    yield from _normalization("res_conv1_bn", 64, network)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS[network.depth], 2):
        inner = 64 * 2 ** (stage - 2)
        for i in range(blocks):
            kernels = {
                "branch2a": (inner, inputs, network.taps(stage, i), 1, 1),
                "branch2b": (inner, inner, 1, 3, 3),
                "branch2c": (inner * 4, inner, 1, 1, 1),
            }
            if i == 0:
                kernels["branch1"] = (inner * 4, inputs, 1, 1, 1)
            for branch, shape in kernels.items():
                name = f"res{stage}_{i}_{branch}"
                yield f"{name}_w", shape
                yield from _normalization(f"{name}_bn", shape[0], network)
            inputs = inner * 4
            if i in network.non_local.get(stage, ()):
                yield from _non_local(f"nonlocal_conv{stage}_{i}", inputs, network)
    yield "pred_w", (400, inputs)
    yield "pred_b", (400,)


def _normalization(name, channels, network):
    for kind in ("s", "b") if network.affine else ("s", "b", "rm", "riv"):
        yield f"{name}_{kind}", (channels,)


def _non_local(name, channels, network):
    inner = channels // 2
    for conv in ("theta", "phi", "g"):
        yield f"{name}_{conv}_w", (inner, channels, 1, 1, 1)
        yield f"{name}_{conv}_b", (inner,)
    yield f"{name}_out_w", (channels, inner, 1, 1, 1)
    yield f"{name}_out_b", (channels,)
    if not network.affine:
        yield from _normalization(f"{name}_bn", channels, network)


def logits(network, blobs):
    """(1, 400), of the network's clip."""
    stride = 2 if network.long_stem else 1
    x = recording.clip(network.size)
    x = conv(x, blobs, "conv1", (stride, 2, 2))
    x = normalize(x, blobs, "res_conv1_bn").relu()
    x = functional.max_pool3d(x, (stride, 3, 3), (stride, 2, 2))  # no padding
    for stage, blocks in enumerate(BLOCKS[network.depth], 2):
        for i in range(blocks):
            x = bottleneck(
                x, blobs, f"res{stage}_{i}", 2 if stage > 2 and i == 0 else 1
            )
            if i in network.non_local.get(stage, ()):
                x = non_local(x, blobs, f"nonlocal_conv{stage}_{i}", network)
        if stage == 2:
            x = functional.max_pool3d(x, (2, 1, 1))
    return functional.linear(x.mean((2, 3, 4)), blobs["pred_w"], blobs["pred_b"])


def bottleneck(x, blobs, name, stride):
    def branch(x, kind, stride=1):
        x = conv(x, blobs, f"{name}_{kind}", (1, stride, stride))
        return normalize(x, blobs, f"{name}_{kind}_bn")

    y = branch(x, "branch2a").relu()
    y = branch(y, "branch2b", stride).relu()
    y = branch(y, "branch2c")
    shortcut = branch(x, "branch1", stride) if f"{name}_branch1_w" in blobs else x
    return (y + shortcut).relu()


def non_local(x, blobs, name, network):
    batch, channels, frames, height, width = x.shape
    grouped = network.affine and name.startswith("nonlocal_conv3")
    groups = frames // 4 if grouped else 1
    # Successive frames of a group: (groups, channels, frames of a group, H, W).
    parts = x.reshape(channels, groups, -1, height, width).transpose(0, 1)
    pooled = functional.max_pool3d(parts, (1, 2, 2))  # before phi and g
    theta = conv(parts, blobs, f"{name}_theta").flatten(2)
    phi = conv(pooled, blobs, f"{name}_phi").flatten(2)
    g = conv(pooled, blobs, f"{name}_g").flatten(2)
    affinity = theta.transpose(1, 2) @ phi
    if network.softmax:
        affinity = (affinity * theta.shape[1] ** -0.5).softmax(2)
    else:
        affinity = affinity / affinity.shape[2]
    y = g @ affinity.transpose(1, 2)
    y = y.reshape(groups, -1, frames // groups, height, width).transpose(0, 1)
    y = y.reshape(batch, -1, frames, height, width)
    return x + normalize(conv(y, blobs, f"{name}_out"), blobs, f"{name}_bn")


def conv(x, blobs, name, stride=1):
    kernel = blobs[f"{name}_w"]
    padding = [size // 2 for size in kernel.shape[2:]]
    return functional.conv3d(x, kernel, blobs.get(f"{name}_b"), stride, padding)


def normalize(x, blobs, name):
    """Batch normalisation, a frozen scale and bias, or neither, by the blobs."""
    kinds = [blobs.get(f"{name}_{kind}") for kind in ("rm", "riv", "s", "b")]
    if kinds[0] is not None:
        return functional.batch_norm(x, *kinds, eps=EPSILON)
    if kinds[2] is None:
        return x
    scale, bias = (v[:, None, None, None] for v in kinds[2:])
    return x * scale + bias


@torch.no_grad()
def main():
    networks = {}
    for name, network in NETWORKS.items():
        blobs = {blob: torch.empty(shape) for blob, shape in shapes(network).items()}
        networks[name] = recording.randomise(blobs, network.scales)
        networks[name][network.size] = logits(network, blobs).numpy()
    recording.write("video_nonlocal_net", networks)


if __name__ == "__main__":
    main()
