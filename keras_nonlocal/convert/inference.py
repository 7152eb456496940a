"""The architecture that weights, or configs of layers, determine.

By the paths and sizes of weights, not their shapes: sizes are the same in every
project's layout.
"""

import re
from collections import Counter
from collections.abc import Mapping

import keras

from keras_nonlocal.convert.architecture import EMBEDDED, Architecture
from keras_nonlocal.convert.differences import COMPARED, pools
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.keras_file import model_config
from keras_nonlocal.layers import (
    BaseNonLocal,
    NonLocal3D,
    PaddedConv2D,
    PaddedConv3D,
    PaddedMaxPooling3D,
)
from keras_nonlocal.models import CONVENTIONS, DEPTHS, EXPANSION, STAGES, STEMS

_RESIDUAL = re.compile(r"((res[2-5])_\d+)_branch2a/")
_NON_LOCAL = re.compile(
    r"(?:(res[2-5]_\d+)_nonlocal/)?((?:theta|phi|g|w_z|norm|concat_projection)/\w+)"
)
_CONV1 = 7 * 7 * 3  # numbers in conv1's kernel for each channel and tap in time
_LAYERS = ("conv1", "pool1", "pool2", "res3_0_branch2a")
# Layers whose sizes follow from the classes, or from the keypoints.
_CLASSIFIERS = ("pred", "box_logits", "box_deltas", "mask_logits", "keypoint_deconv")
_NOT_IN_RESNET = ("bfp_", "keypoint_")  # of non-local blocks
_IN_BACKBONE = re.compile(r"(conv1|conv1_bn|res[2-5]_\w+|pred)/")


# === Weights ===


def architecture_of_weights(sizes):
    """What the weights determine, however few they are.

    The stem leaves no trace in them, nor does the choice between the embedded
    Gaussian and the dot product. `sizes` has numbers of elements by our path.
    """
    width, conv1 = sizes.get("conv1_bn/gamma"), sizes.get("conv1/kernel", 0)
    depths = {blocks: depth for depth, blocks in DEPTHS.items()}
    taps = conv1 / _CONV1 / width if width else None
    kernel = None
    if taps == 5:
        inflated = sizes.get("res2_0_branch2b/kernel", 0) > 9 * width**2
        kernel = "3x3x3" if inflated else "3x1x1"
    parts = {}
    for match in filter(None, map(_NON_LOCAL.fullmatch, sizes)):
        parts.setdefault(match[1] or "", set()).add(match[2])
    return Architecture(
        model={1: "c2d", 5: "i3d"}.get(taps),
        depth=depths.get(residual_blocks(sizes)),
        width=width,
        num_classes=sizes.get("pred/bias", sizes.get("box_logits/bias")),
        temporal_kernel=kernel,
        blocks={name: _options(name, parts[name], sizes, width) for name in parts},
    )


def is_classifier(path):
    """Whether a weight is of a layer that other classes replace."""
    return path.split("/")[0] in _CLASSIFIERS


def is_of_image_network(path):
    """Whether a ResNet for images has such a weight: not a detector's FPN and heads."""
    return bool(_IN_BACKBONE.match(path))


def residual_blocks(paths):
    """Numbers of residual blocks in res2 to res5, of our paths."""
    found = {match[1]: match[2] for match in map(_RESIDUAL.match, paths) if match}
    counts = Counter(found.values())
    return tuple(counts[stage] for stage in STAGES)


def _options(name, parts, sizes, width):
    """Arguments of `NonLocal3D` that one block's weights determine."""
    options = {
        "modes": EMBEDDED if "theta/kernel" in parts else ("gaussian",),
        "normalization": "batch" if any("norm/" in part for part in parts) else None,
        "use_bias": "g/bias" in parts,
        "use_output_bias": "w_z/bias" in parts,
    }
    if "concat_projection/kernel" in parts:
        options["modes"] = ("concatenation",)
    if name and width:
        channels = width * 2 ** STAGES.index(name.split("_")[0]) * EXPANSION
        size = sizes.get(f"{name}_nonlocal/g/kernel", 0)
        if 2 * size != channels**2:
            options["intermediate_channels"] = size // channels
    return options


def check_is_network(sizes):
    """Raises unless the weights are of a whole C2D, I3D or ResNet."""
    width = sizes.get("conv1_bn/gamma")
    if not width:
        raise CheckpointError(
            "It holds no network from its first layer on: there is no conv1 with "
            "batch normalisation. Weights of a single layer or of a part of a "
            "network load with keras_nonlocal.convert.load_weights."
        )
    for i, stage in enumerate(STAGES):
        expected = EXPANSION * (width * 2**i) ** 2
        size = sizes.get(f"{stage}_0_branch2c/kernel", 0)
        if size != expected:
            raise CheckpointError(
                f"{stage} does not follow from conv1: after {width} channels its first "
                f"1x1x1 convolution out has {expected} weights in C2D and I3D, and "
                f"{size} in the file. It is of another network, or damaged."
            )
    blocks, taps = residual_blocks(sizes), sizes.get("conv1/kernel", 0) / _CONV1 / width
    if blocks not in DEPTHS.values():
        raise CheckpointError(
            f"It has {blocks} residual blocks in res2 to res5, as no network of the "
            f"depths {tuple(DEPTHS)} has. It is of another network, or incomplete."
        )
    if taps not in (1, 5):
        raise CheckpointError(
            f"Its conv1 has {taps:.4g} times the weights of a 7x7 convolution of RGB. "
            "Expected 1 (C2D) or 5 (I3D)."
        )


# === Configs of layers ===


def architecture_of_model(model, sizes):
    """The `Architecture` of a built network or block, by its weights and its layers."""
    configs = configs_of(model)
    if isinstance(model, BaseNonLocal):
        configs[0]["name"] = "_nonlocal"
    return architecture_of_weights(sizes).merged(architecture_of_configs(configs))


def configs_of(model):
    """The configs of those layers of a model that determine its architecture."""
    ours = (BaseNonLocal, PaddedConv2D, PaddedConv3D, PaddedMaxPooling3D)
    return [layer.get_config() for layer in layers_of(model) if isinstance(layer, ours)]


def layers_of(model):
    """The layers of a model and of the models within it; a layer is its own."""
    return model._flatten_layers(include_self=not isinstance(model, keras.Model))


def saved_configs(config):
    """The configs of layers in a `.keras` file's `config.json`."""
    layers = model_config(config).get("layers")
    layers = layers if isinstance(layers, list) else []
    configs = [x.get("config") for x in layers if isinstance(x, Mapping)]
    return [x for x in configs if isinstance(x, Mapping) and "name" in x]


def architecture_of_configs(configs):
    """What configs of layers, as `get_config` gives them, determine beside weights."""
    configs = {str(config["name"]): config for config in configs}
    try:
        blocks = {
            name.removesuffix("_nonlocal"): _config_options(config)
            for name, config in configs.items()
            if "sub_sample" in config and not name.startswith(_NOT_IN_RESNET)
        }
        if not configs.keys() >= {*_LAYERS}:
            strides = configs.get(_LAYERS[-1], {}).get("strides")  # of images
            stride = None if strides is None else strides[-1] > 1
            return Architecture(stride_in_1x1=stride, blocks=blocks)
        conv1, pool1, pool2, branch2a = (configs[name] for name in _LAYERS)
        stems = {stride: name for name, stride in STEMS.items()}
        stem = stems[conv1["strides"][0]]
        model = "i3d" if conv1["kernel_size"][0] > 1 else "c2d"
        found = pool1["pad"][1], pool1["pool_size"][0], pool2["pool_size"][0]
        names = tuple(x for x in CONVENTIONS if pools(x, model, stem) == found)
        if not names:
            raise ValueError("pools of no convention")
        stride = branch2a["strides"][1] > 1
        return Architecture(
            stem=stem, conventions=names, stride_in_1x1=stride, blocks=blocks
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Its config is damaged ({error!r}). Expected that of a C2D or an I3D."
        ) from error


def _config_options(config):
    options = {option: config[option] for option in COMPARED}
    NonLocal3D(mode=config["mode"], **options)  # which checks them
    return {"modes": (config["mode"],)} | options
