"""A project's network, run on its own weights."""

import numpy as np

from keras_nonlocal.convert.reference.arithmetic import (
    conv,
    conv_of_image,
    max_pool,
    normalize,
    relu,
    softmax,
)

_STAGES = (2, 3, 4, 5)


class Network:
    """The forward pass of inference; maps are (T, H, W, C).

    Args:
        weights: Dict of NumPy arrays by the project's names.
        names: `Names`.
        details: `Details`.
        temporal_kernel: Of an I3D: `"3x1x1"` or `"3x3x3"`; None: of a C2D. Used
            where kernels are an image network's.
        stride: Of conv1 and pool1 in time: 2 in the 32x2 stem.
        mode: Of the non-local blocks.
        scales: Whether they are scaled, where that is not the project's habit.
        pools_keys: Whether they pool their keys, likewise.
    """

    def __init__(
        self,
        weights,
        names,
        details,
        *,
        temporal_kernel=None,
        stride=1,
        mode="embedded_gaussian",
        scales=None,
        pools_keys=None,
    ):
        layout = _from_keras if names.is_keras else _as_float32
        self.weights = {name: layout(array) for name, array in weights.items()}
        self.names = names
        self.details = details
        self.temporal_kernel = temporal_kernel
        self.stride = stride
        self.mode = mode
        self.scales = details.scales if scales is None else scales
        self.pools_keys = details.pools_keys if pools_keys is None else pools_keys
        self.largest_exponent = 0.0  # in a softmax, as far as the network was run
        # Networks of frozen scales and biases have no statistics anywhere.
        self.is_affine = self.get(names.stem_bn, names.norm[3]) is None

    def run(self, clip):
        """What the stages give for a clip, by name; `"pred"` are the logits."""
        outputs = {}
        x = self.run_stem(clip)
        for stage in _STAGES:
            x = self.run_stage(x, stage)
            outputs[f"res{stage}"] = x
            if stage == 2:
                frames, pad = self.details.pool2
                x = max_pool(x, (frames, 1, 1), (2, 1, 1), (pad, 0, 0))
        kernel = self.get(self.names.head, self.names.weight["kernel"])
        if kernel is not None:
            features = x.mean((0, 1, 2), dtype="float64").astype("float32")
            bias = self.get(self.names.head, self.names.weight["bias"])
            kernel = kernel.reshape(kernel.shape[:2])
            outputs["pred"] = kernel @ features + bias
        return outputs

    def get(self, layer, weight):
        return self.weights.get(f"{layer}{self.names.joint}{weight}")

    def run_stem(self, x):
        taps = 5 if self.temporal_kernel else 1
        x = self.convolve(x, self.names.stem, taps, (self.stride, 2, 2))
        x = relu(self.norm(x, self.names.stem_bn))
        (frames, *window), (frame_pad, *pad) = (
            self.details.pool1,
            self.details.pool1_pad,
        )
        if self.stride == 1:
            frames, frame_pad = 1, 0
        return max_pool(x, (frames, *window), (self.stride, 2, 2), (frame_pad, *pad))

    def run_stage(self, x, stage):
        number = stage - 2 + self.names.first_stage
        block = 0
        while self.has_block(number, block + self.names.first_block):
            place = {"s": number, "i": block + self.names.first_block}
            stride = 2 if stage > 2 and block == 0 else 1
            x = self.residual(x, place, self.taps(stage, block), stride)
            if self.part(place, "g", "kernel") is not None:
                x = self.non_local(x, place, stage)
            block += 1
        return x

    def has_block(self, number, block):
        branch = self.names.branches["2a"][0]
        layer = self.names.layer.format(s=number, i=block, x=branch)
        return self.get(layer, self.names.weight["kernel"]) is not None

    def taps(self, stage, block):
        """Of branches 2a and 2b: res2 all, res5 the middle one, else every second."""
        reaches = block % 2 == (1 if stage == 5 else 0) or stage == 2
        if not (self.temporal_kernel and reaches):
            return 1, 1
        return (3, 1) if self.temporal_kernel == "3x1x1" else (1, 3)

    def residual(self, x, place, taps, stride):
        strides = {"1": stride, self.names.strided: stride}
        y = relu(self.branch(x, place, "2a", strides, taps[0]))
        y = relu(self.branch(y, place, "2b", strides, taps[1]))
        y = self.branch(y, place, "2c", strides)
        if place["i"] == self.names.first_block:
            x = self.branch(x, place, "1", strides)
        return relu(x + y)

    def branch(self, x, place, branch, strides, taps=1):
        layer, norm = self.names.branches[branch]
        stride = strides.get(branch, 1)
        layer = self.names.layer.format(**place, x=layer)
        x = self.convolve(x, layer, taps, (1, stride, stride))
        return self.norm(x, self.names.layer_bn.format(**place, y=norm))

    def convolve(self, x, layer, taps, strides):
        kernel = self.get(layer, self.names.weight["kernel"])
        if kernel.ndim == 4:
            return conv_of_image(x, kernel, taps, strides)
        return conv(x, kernel, strides)

    def norm(self, x, layer):
        values = [self.get(layer, weight) for weight in self.names.norm]
        return x if values[0] is None else normalize(x, *values, self.names.epsilon)

    # === Non-local block ===

    def part(self, place, part, weight):
        """A weight of a part of a non-local block, or None."""
        for name in self.names.parts[part]:
            layer = self.names.block.format(**place, x=name)
            found = self.get(layer, self.names.weight[weight])
            if found is not None:
                return found
        return None

    def non_local(self, x, place, stage):
        """In affine networks the 4 successive frames of res3 see one another."""
        frames = 4 if self.is_affine and stage == 3 else len(x)
        groups = [x[t : t + frames] for t in range(0, len(x), frames)]
        y = np.concatenate([self.attend(group, place) for group in groups])
        return x + self.norm_of_block(self.project(y, place, "out"), place)

    def attend(self, x, place):
        first = self.pools_keys and self.details.pools_first
        last = self.pools_keys and not self.details.pools_first
        keys = _pool_keys(x) if first else x
        theta, phi = x, keys
        if self.mode != "gaussian":
            theta, phi = (
                self.project(x, place, "theta"),
                self.project(keys, place, "phi"),
            )
        g = self.project(keys, place, "g")
        if last:
            phi, g = _pool_keys(phi), _pool_keys(g)
        theta, phi, g = (t.reshape(-1, t.shape[-1]) for t in (theta, phi, g))
        y = self.pairwise(theta, phi, place) @ g
        return y.reshape(*x.shape[:3], -1)

    def pairwise(self, theta, phi, place):
        """f(x_i, x_j) / C(x), (N, M)."""
        if self.mode == "concatenation":
            kernel = self.part(place, "concat", "kernel").ravel()
            of_theta, of_phi = np.split(kernel, 2)
            pairs = (theta @ of_theta)[:, None] + (phi @ of_phi)[None]
            return relu(pairs) / np.float32(len(phi))
        products = theta @ phi.T
        if self.mode == "dot_product":
            return products / np.float32(len(phi))
        if self.mode == "embedded_gaussian" and self.scales:
            products = products / np.sqrt(np.float32(theta.shape[1]))
        largest = float(np.max(np.abs(products), initial=0))
        self.largest_exponent = max(self.largest_exponent, largest)
        return softmax(products)

    def project(self, x, place, part):
        """A 1x1x1 convolution."""
        kernel, bias = (self.part(place, part, kind) for kind in ("kernel", "bias"))
        y = x @ kernel.reshape(kernel.shape[:2]).T
        return y if bias is None else y + bias

    def norm_of_block(self, x, place):
        for name in self.names.parts["bn"]:
            x_normalised = self.norm(x, self.names.block.format(**place, x=name))
            if x_normalised is not x:
                return x_normalised
        return x


def _pool_keys(x):
    return max_pool(x, (1, 2, 2), (1, 2, 2))


def _as_float32(array):
    return np.asarray(array).astype("float32")


def _from_keras(array):
    """(..., I, O) to (O, I, ...)."""
    array = _as_float32(array)
    if array.ndim < 2:
        return array
    return np.moveaxis(array, (-1, -2), (0, 1))
