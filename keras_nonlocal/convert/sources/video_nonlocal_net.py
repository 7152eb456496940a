"""video-nonlocal-net, the authors' release: blobs of Caffe2.

PySlowFast's model zoo has them too, of networks with PySlowFast's convention: no
name tells the two apart.
"""

import dataclasses

import numpy as np

from keras_nonlocal.convert.arrays import identity_norm
from keras_nonlocal.convert.errors import Problem
from keras_nonlocal.convert.sources.source import Source


def _defaults(arrays):
    """Affine layers: a normalisation that was folded into its scale and bias.

    The networks for long clips have them, and no normalisation after W_z.
    """
    if any(path.endswith("/moving_variance") for path in arrays):
        return {}
    statistics = {"/moving_mean": 0.0, "/moving_variance": 1.0 - SOURCE.epsilon}
    if any("_nonlocal/norm/" in path for path in arrays):
        return statistics
    return identity_norm(SOURCE.epsilon) | statistics


def _block_options(state, _):
    """Its affine networks attend within 4 frames in res3, as their clips are long."""
    normalised = any(name.endswith("_bn_riv") for name in state)
    blocks = any(name.startswith("nonlocal_conv3_") for name in state)
    return {"res3": {"group_size": 4}} if blocks and not normalised else {}


SOURCE = Source(
    name="video_nonlocal_net",
    convention="video_nonlocal_net",
    names={
        "conv1_w": "conv1/kernel",
        "res_conv1_bn_{bn}": "conv1_bn/{bn}",
        "res{s}_{i}_{branch}_w": "res{s}_{i}_{branch}/kernel",
        "res{s}_{i}_{branch}_bn_{bn}": "res{s}_{i}_{branch}_bn/{bn}",
        "nonlocal_conv{s}_{i}_{one}_{w}": "res{s}_{i}_nonlocal/{one}/{w}",
        "nonlocal_conv{s}_{i}_bn_{bn}": "res{s}_{i}_nonlocal/norm/{bn}",
        "pred_{w}": "pred/{w}",
    },
    fields={
        "one": {"theta": "theta", "phi": "phi", "g": "g", "out": "w_z"},
        # riv is the running variance, not its inverse.
        "bn": {
            "s": "gamma",
            "b": "beta",
            "rm": "moving_mean",
            "riv": "moving_variance",
        },
        "w": {"w": "kernel", "b": "bias"},
    },
    ignored=(".*_momentum", "lr", "model_iter"),
    others={r"^t_": "a SlowFast network of two pathways"},
    defaults=_defaults,
    block_options=_block_options,
    # Its ImageNet models, from which the others start, have the same names.
    is_image_network=lambda state: np.ndim(state.get("conv1_w")) == 4,
    remark=Problem(
        "same names",
        name="PySlowFast's model zoo",
        fix={"source": "pyslowfast_caffe2"},
    ),
)

PYSLOWFAST = dataclasses.replace(
    SOURCE, name="pyslowfast_caffe2", convention="pyslowfast", pixels=None, remark=None
)
