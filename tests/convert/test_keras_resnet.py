"""ResNets of Keras, inflated: their features on the images, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D, I3D
from tests.convert.networks import numpy

STAGES = ("res2", "res3", "res4", "res5")
SIDE = 40


def randomize(model):
    """Weights under which no term of any layer vanishes."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            weight.assign(rng.normal(0, 0.3, shape))
        else:
            weight.assign(rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape))
    return model


@pytest.fixture(scope="module")
def resnet50():
    shape = (SIDE, SIDE, 3)
    return randomize(keras.applications.ResNet50(weights=None, input_shape=shape))


def build(architecture=C2D, depth=50, clip=(2, SIDE, SIDE, 3), **options):
    options = {"convention": "pyslowfast", "stride_in_1x1": True} | options
    return architecture(depth, options.pop("classes", 1000), clip, **options)


def weights(model):
    return {weight.path: numpy(weight).copy() for weight in model.weights}


def still(num_frames):
    frame = np.random.default_rng(1).normal(size=(1, 1, SIDE, SIDE, 3))
    return np.repeat(frame.astype("float32"), num_frames, axis=1)


def features(model, names, x):
    outputs = [model.get_layer(name).output for name in names]
    return [numpy(y) for y in keras.Model(model.input, outputs)(x)]


def distance(features, expected):
    """Of each frame, relative to the largest feature."""
    expected = np.expand_dims(expected, 1)
    return np.abs(features - expected).max((0, 2, 3, 4)) / np.abs(expected).max()


APPLICATIONS = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
APPLICATIONS += ("conv5_block3_out",)


def test_every_frame_of_a_c2d_is_the_image_of_resnet50(resnet50):
    model = build(non_local=5)
    report = load_weights(model, resnet50)
    assert report.ok and report.source == "keras_applications"
    assert not report.inflated and not report.unexpected
    assert len(report.matched) == 5 * 53 + 2  # kernels, normalisations, classifier
    assert {path.split("/")[0][5:] for path in report.new} == {"1_nonlocal"} | {
        f"{i}_nonlocal" for i in (1, 3, 5)
    }
    images = features(resnet50, APPLICATIONS, still(1)[:, 0])
    for name, ours, theirs in zip(
        STAGES, features(model, STAGES, still(2)), images, strict=True
    ):
        assert distance(ours, theirs).max() < 1e-5, name
    logits = numpy(model(still(2)))
    probabilities = np.exp(logits - logits.max())
    expected = numpy(resnet50(still(1)[:, 0]))
    np.testing.assert_allclose(
        probabilities / probabilities.sum(), expected, rtol=1e-3, atol=1e-7
    )


@pytest.mark.slow
def test_an_i3d_sees_the_image_of_resnet50_in_the_middle_of_a_clip(resnet50):
    model = build(I3D, clip=(40, SIDE, SIDE, 3), classes=5)
    report = load_weights(model, resnet50)
    assert len(report.inflated) == 10 and set(report.new) == {
        "pred/kernel",
        "pred/bias",
    }
    kernel = numpy(model.get_layer("conv1").kernel)
    image = numpy(resnet50.get_layer("conv1_conv").kernel)
    np.testing.assert_array_equal(kernel, np.stack([image / np.float32(5)] * 5))
    images = features(resnet50, APPLICATIONS, still(1)[:, 0])
    for name, ours, theirs in zip(
        STAGES, features(model, STAGES, still(40)), images, strict=True
    ):
        error = distance(ours, theirs)
        assert error[len(error) // 2] < 1e-5, name
        assert error[0] > 1e-2, name


def test_biases_go_into_the_means_exactly():
    state = {
        "conv1_bn/gamma": np.ones(2),
        "conv1_conv/bias": np.array([1.5, -2.0]),
        "conv1_bn/moving_mean": np.array([0.5, 4.0]),
    }
    model = build(depth=14, width=2)
    model.get_layer("conv1_bn").gamma.assign([1.0, 1.0])
    before = weights(model)
    load_weights(model, state, strict=False)
    after = weights(model)
    np.testing.assert_array_equal(after.pop("conv1_bn/moving_mean"), [-1.0, 6.0])
    assert all((after[path] == before[path]).all() for path in after)
    del state["conv1_bn/moving_mean"]
    with pytest.raises(CheckpointError, match="'conv1_conv/bias' .* no 'conv1_bn/mov"):
        load_weights(model, state, strict=False)


@pytest.fixture(scope="module")
def loaded(resnet50):
    """The weights of a C2D that was loaded from the model itself."""
    model = build()
    load_weights(model, resnet50)
    return weights(model)


@pytest.mark.slow  # all are HDF5 inside, of which tests/convert/files has every layout
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_of_keras_hold_the_same(resnet50, loaded, suffix, tmp_path, caplog):
    path = tmp_path / f"resnet{suffix}"
    resnet50.save_weights(path) if suffix == ".weights.h5" else resnet50.save(path)
    model = build()
    report = load_weights(model, path)
    assert report.ok and report.source == "keras_applications"
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, loaded[name], name)


@pytest.mark.slow
def test_the_stride_must_be_where_the_weights_had_it(resnet50):
    model = build(stride_in_1x1=False)
    before = weights(model)
    message = "strides in its 3x3 convolution(.|\n)*Build the model with stride_in_1x1="
    with pytest.raises(CheckpointError, match=f"{message}True"):
        load_weights(model, resnet50)
    assert all((x == before[path]).all() for path, x in weights(model).items())
    assert not load_weights(model, resnet50, strict=False).ok


@pytest.mark.slow
def test_resnet_v2_is_refused_with_the_reason():
    model = keras.applications.ResNet50V2(weights=None, input_shape=(SIDE, SIDE, 3))
    with pytest.raises(CheckpointError, match=r"normalises before .* \(ResNet V2\)"):
        load_weights(build(), model, strict=False)


# === KerasHub: its names and rules, rebuilt small; it need not be installed ===


def hub_conv(x, filters, size, stride, name):
    padding = "same"
    if stride > 1 and size > 1:
        x, padding = layers.ZeroPadding2D(size // 2)(x), "valid"
    x = layers.Conv2D(
        filters, size, stride, padding, use_bias=False, name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)


def hub_backbone(width=4, blocks=(1, 2, 1, 1)):
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.ReLU()(hub_conv(images, width, 7, 2, "conv1"))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for s, num_blocks in enumerate(blocks):
        for i in range(num_blocks):
            stride, name = 2 if s and not i else 1, f"stack{s}_block{i}"
            shortcut = x
            if i == 0:
                shortcut = hub_conv(x, 4 * width * 2**s, 1, stride, f"{name}_0")
            x = layers.ReLU()(hub_conv(x, width * 2**s, 1, 1, f"{name}_1"))
            x = layers.ReLU()(hub_conv(x, width * 2**s, 3, stride, f"{name}_2"))
            x = hub_conv(x, 4 * width * 2**s, 1, 1, f"{name}_3")
            x = layers.ReLU(name=f"{name}_out")(layers.Add()([x, shortcut]))
    return keras.Model(images, x, name="res_net_backbone")


@pytest.mark.parametrize(
    "file",
    [None, "hub.keras", pytest.param("hub.weights.h5", marks=pytest.mark.slow)],
)
def test_resnets_of_keras_hub_need_no_option(file, tmp_path):
    backbone = hub_backbone(blocks=(2, 2, 2, 2))
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(backbone(images))
    classifier = keras.Model(images, layers.Dense(5, name="predictions")(x))
    content = randomize(classifier)
    if file:
        content = tmp_path / file
        (classifier.save if file == "hub.keras" else classifier.save_weights)(content)
    model = build(depth=26, width=4, classes=5, stride_in_1x1=False)
    report = load_weights(model, content)
    assert report.ok and report.source == "keras_hub" and not report.new
    logits, expected = numpy(model(still(2))), numpy(classifier(still(1)[:, 0]))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_of_keras_hub_leaves_the_classifier_new():
    model = build(depth=26, width=4, classes=5, stride_in_1x1=False)
    report = load_weights(model, randomize(hub_backbone(blocks=(2, 2, 2, 2))))
    assert report.ok and set(report.new) == {"pred/kernel", "pred/bias"}
    with pytest.raises(CheckpointError, match=r"have \(1, 2, 1, 1\) residual"):
        load_weights(model, hub_backbone())


@pytest.mark.parametrize(
    "name, message",
    [
        ("conv2_conv/kernel", r"several convolutions \(ResNet-vd\)"),
        ("stack0_block0_pre_activation_bn/gamma", r"\(ResNet V2\)"),
        ("conv2_block1_2_conv/depthwise_kernel", r"in groups \(ResNeXt\)"),
    ],
)
def test_variants_of_resnet_are_refused_with_the_reason(name, message):
    state = {x.path: numpy(x) for x in hub_backbone().weights} | {name: np.ones(3)}
    with pytest.raises(CheckpointError, match=f"plain ResNet-50.*{message}"):
        load_weights(build(depth=14, width=4), state, strict=False)


def test_resnet_18_is_refused():
    state = {x.path: numpy(x) for x in hub_backbone().weights}
    state = {name: x for name, x in state.items() if "_3_conv" not in name}
    with pytest.raises(CheckpointError, match="two convolutions, as ResNet-18"):
        load_weights(build(depth=14, width=4), state, strict=False)
