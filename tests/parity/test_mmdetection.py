"""The balanced pyramid of open-mmlab/mmdetection's Libra R-CNN, with its weights.

`mmdetection.npz` holds the results of that project; `make_mmdetection_values.py` beside
it says how it was made.
"""

import keras
import numpy as np
import pytest

from keras_nonlocal import MaskRCNN
from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import balanced_pyramid, feature_pyramid, resnet_backbone
from tests.backends import assert_close, to_numpy
from tests.parity import seeded


@pytest.fixture(scope="module")
def libra():
    return seeded.read("mmdetection", "libra")


def build(shape=(None, None, 3), is_balanced=True):
    backbone = resnet_backbone(50, shape, width=8)
    maps = feature_pyramid(backbone.outputs, 16)
    maps = balanced_pyramid(maps) if is_balanced else maps
    return keras.Model(backbone.inputs[0], maps)


def detector(**options):
    return MaskRCNN(50, 3, width=8, min_size=64, **options)


@pytest.mark.parametrize(
    "height, width, is_static",
    [
        (96, 160, False),
        pytest.param(96, 160, True, marks=pytest.mark.slow),
        (75, 141, True),
        pytest.param(75, 141, False, marks=pytest.mark.slow),
    ],
)
def test_levels_are_the_same(libra, height, width, is_static):
    model = build((height, width, 3) if is_static else (None, None, 3))
    report = load_weights(model, libra.state)
    assert report.source == "mmdetection" and not report.new
    image = seeded.clip("1x96x160")[:, 0, :height, :width]
    # Compiled as a whole: JAX takes minutes for single operations.
    for level, x in enumerate(model.predict(image, verbose=0), 2):
        expected = libra.outputs[f"{height}x{width}/{level}"].astype("float64")
        assert x.shape == expected.shape
        assert_close(x, expected, 1e-5)


@pytest.mark.slow
def test_the_block_takes_part(libra):
    """The recorded levels are not those of the pyramid alone, nor of the mean."""
    model = build()
    load_weights(model, libra.state)
    image = seeded.clip("1x96x160")[:, 0]
    output = model.get_layer("bfp_nonlocal").w_z
    output.kernel.assign(0 * output.kernel)
    expected = libra.outputs["96x160/2"]
    distance = np.abs(to_numpy(model(image)[0]) - expected).max()
    assert distance > 0.05 * np.abs(expected).max()


def test_heads_of_a_file_are_left_out(libra):
    state = libra.state | {
        "rpn_head.rpn_conv.weight": np.ones((16, 16, 3, 3), "float32"),
        "roi_head.bbox_head.fc_cls.weight": np.ones((81, 1024), "float32"),
    }
    # A detector's pyramid has 4 channels for each of `width`.
    wide = {
        name: np.concatenate([x, x]) if name.startswith("neck") else x
        for name, x in state.items()
    }
    wide |= {
        name: np.concatenate([x, x], axis=1)
        for name, x in wide.items()
        if name.startswith("neck") and x.ndim == 4 and x.shape[1] == 16
    }
    report = load_weights(detector(balanced_pyramid=True), {"state_dict": wide})
    assert {x.split("_")[0] for x in report.new} == {"rpn", "box", "mask"}
    assert [x for x in report.ignored if "head" in x] == [*state][-2:]
    assert report.matched["bfp_nonlocal/w_z/kernel"] == (
        "neck.1.refine.conv_out.conv.weight"
    )


def test_a_plain_pyramid_does_not_take_the_block(libra):
    with pytest.raises(CheckpointError, match=r"neck\.1\.refine"):
        load_weights(build(is_balanced=False), libra.state)
    one_neck = {
        name.replace("neck.0.", "neck."): x
        for name, x in libra.state.items()
        if not name.startswith("neck.1")
    }
    assert not load_weights(build(is_balanced=False), one_neck).new
    new = load_weights(build(), one_neck).new
    assert {x.split("/")[0] for x in new} == {"bfp_nonlocal"}


@pytest.mark.slow
def test_an_incomplete_pyramid_is_an_error(libra):
    state = dict(libra.state)
    del state["neck.0.fpn_convs.1.conv.bias"]
    with pytest.raises(CheckpointError, match="fpn_output3/bias"):
        load_weights(build(), state)


def test_a_detector_of_a_balanced_pyramid_is_restored(tmp_path):
    model = detector(balanced_pyramid=True)
    again = MaskRCNN.from_config(model.get_config())
    assert [x.path for x in again.weights] == [x.path for x in model.weights]
    assert "bfp_nonlocal/theta/kernel" in [x.path for x in again.trainable_weights]
