"""Small networks of every source, as files of weights."""

import pickle

from keras_nonlocal.models import C2D, I3D
from tests.convert import spelling
from tests.convert.networks import draw_state

CLIP = (8, 64, 64, 3)
BLOCKS = {"res3": [0], "res4": [0]}


def build(architecture=I3D, convention="video_nonlocal_net", **options):
    options = {"depth": 14, "num_classes": 7, "width": 4, "non_local": BLOCKS} | options
    return architecture(input_shape=CLIP, convention=convention, **options)


def without_sub_sampling(path):
    return spelling.mmaction2(path, sub_sample=False)


def _mmaction2(**options):
    return build(convention="mmaction2", non_local_options=options)


def states():
    """Random weights under each source's names."""
    image = build(C2D, non_local=None)
    own = build(convention="pyslowfast")
    long_clips = build(non_local_options={"normalization": None})
    affine = {
        name: array
        for name, array in draw_state(long_clips, spelling.video_nonlocal_net).items()
        if not name.endswith(("_rm", "_riv"))
    }
    return {
        "video_nonlocal_net": draw_state(build(), spelling.video_nonlocal_net),
        "video_nonlocal_net_affine": affine,
        "pyslowfast": draw_state(own, spelling.pyslowfast),
        "mmaction2": draw_state(_mmaction2(), spelling.mmaction2),
        "mmaction2_gaussian": draw_state(
            _mmaction2(mode="gaussian"), spelling.mmaction2
        ),
        "mmaction2_concatenation": draw_state(
            _mmaction2(mode="concatenation", sub_sample=False), without_sub_sampling
        ),
        "mmaction2_c2d": draw_state(
            build(C2D, "mmaction2", non_local=None), spelling.mmaction2, image=True
        ),
        "gluoncv": draw_state(build(convention="gluoncv"), spelling.gluoncv),
        "torchvision": draw_state(image, spelling.torchvision, image=True),
    }


def write(state, path):
    """As video-nonlocal-net writes it; read by its content, whatever its source."""
    with open(path, "wb") as file:
        pickle.dump({"blobs": state}, file, protocol=2)
    return str(path)
