import keras
import numpy as np
import pytest

from keras_nonlocal.models import C2D, I3D
from keras_nonlocal.models.resnet import DEPTHS

SMALL = {"depth": 14, "num_classes": 5, "width": 4}
CLIP = (4, 48, 48, 3)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def clips(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def copy_weights(source, target):
    """Copies weights by path, as a checkpoint does; returns paths only in target."""
    weights = {weight.path: weight for weight in source.weights}
    new = []
    for weight in target.weights:
        if weight.path in weights:
            weight.assign(weights.pop(weight.path))
        else:
            new.append(weight.path)
    assert not weights
    return new


@pytest.mark.parametrize("mode", ["gaussian", "embedded_gaussian", "dot_product"])
def test_new_non_local_blocks_keep_the_logits(mode):
    x = clips(2, *CLIP)
    plain = I3D(input_shape=CLIP, **SMALL)
    options = {"mode": mode}
    places = {"res2": [0], "res3": [0], "res4": [0]}
    other = I3D(input_shape=CLIP, non_local=places, non_local_options=options, **SMALL)
    new = copy_weights(plain, other)
    assert {path.split("/")[0] for path in new} == {
        "res2_0_nonlocal",
        "res3_0_nonlocal",
        "res4_0_nonlocal",
    }
    np.testing.assert_array_equal(numpy(other(x)), numpy(plain(x)))
    other.get_layer("res4_0_nonlocal").norm.gamma.assign(np.ones(64))
    assert (numpy(other(x)) != numpy(plain(x))).any()


def test_options_of_a_stage_go_above_those_of_all():
    options = {"mode": "dot_product", "res3": {"group_size": 2, "mode": "gaussian"}}
    places = {"res3": [0], "res4": [0]}
    model = I3D(input_shape=CLIP, non_local=places, non_local_options=options, **SMALL)
    first, second = (model.get_layer(f"{stage}_0_nonlocal") for stage in places)
    assert (first.mode, first.group_size) == ("gaussian", 2)
    assert (second.mode, second.group_size) == ("dot_product", None)


def test_one_set_of_weights_serves_any_clip_size():
    free = I3D(input_shape=(None, None, None, 3), non_local={"res3": [0]}, **SMALL)
    free.get_layer("res3_0_nonlocal").norm.gamma.assign(np.ones(32))
    for shape in [(4, 48, 48, 3), (7, 61, 45, 3)]:
        fixed = I3D(input_shape=shape, non_local={"res3": [0]}, **SMALL)
        assert copy_weights(free, fixed) == []
        x = clips(2, *shape)
        expected = numpy(fixed(x))
        np.testing.assert_allclose(numpy(free(x)), expected, rtol=1e-4, atol=1e-6)


def test_clip_too_short_for_a_free_input_is_an_error():
    free = C2D(input_shape=(None, None, None, 3), **SMALL)
    with pytest.raises(ValueError, match=r"pool2 has a window of \(2, 1, 1\)"):
        free(clips(1, 1, 48, 48, 3))


def test_saved_model_gives_the_same_logits(tmp_path):
    model = I3D(
        input_shape=CLIP,
        non_local={"res3": [0], "res4": [0]},
        convention="mmaction2",
        **SMALL,
    )
    model.get_layer("res3_0_nonlocal").norm.gamma.assign(np.ones(32))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = clips(2, *CLIP)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    for layer, original in zip(loaded.layers, model.layers, strict=True):
        assert layer.get_config() == original.get_config()


def test_layers_have_stable_names():
    model = C2D(26, 5, (8, 48, 48, 3), width=4, non_local=1, stem="32x2")
    names = [layer.name for layer in model.layers]
    assert names[:5] == ["clips", "conv1", "conv1_bn", "conv1_relu", "pool1"]
    residual = {"branch2a", "branch2a_bn", "branch2a_relu", "branch2b", "branch2b_bn"}
    residual |= {"branch2b_relu", "branch2c", "branch2c_bn", "add", "out"}
    prefix = "res4_1_"
    assert {n.removeprefix(prefix) for n in names if n.startswith(prefix)} == residual
    first = {n.removeprefix("res4_0_") for n in names if n.startswith("res4_0_")}
    assert first == residual | {"branch1", "branch1_bn", "nonlocal"}
    assert names[-4:] == ["res5", "pool5", "dropout", "pred"]
    assert not [n for n in names if n.startswith(("conv3d", "batch_norm", "re_lu"))]


@pytest.mark.parametrize("depth", [14, 26, 50])
def test_depth_counts_layers_with_weights(depth):
    model = C2D(depth, 5, CLIP, width=2)
    names = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    assert len([name for name in names if "branch1" not in name]) == depth


def test_depths_count_their_convolutions():
    assert {depth: 3 * sum(blocks) + 2 for depth, blocks in DEPTHS.items()} == {
        depth: depth for depth in DEPTHS
    }


def test_temporal_kernels_are_inflated_in_place():
    def taps(temporal_kernel, branch):
        model = I3D(26, 5, CLIP, width=2, temporal_kernel=temporal_kernel)
        return [
            model.get_layer(f"res{stage}_{i}_{branch}").kernel.shape[:3]
            for stage in (2, 3, 5)
            for i in (0, 1)
        ]

    flat, tall = (1, 1, 1), (3, 1, 1)
    assert taps("3x1x1", "branch2a") == [tall, tall, tall, flat, flat, tall]
    assert set(taps("3x1x1", "branch2b")) == {(1, 3, 3)}
    flat, tall = (1, 3, 3), (3, 3, 3)
    assert taps("3x3x3", "branch2b") == [tall, tall, tall, flat, flat, tall]
    assert set(taps("3x3x3", "branch2a")) == {(1, 1, 1)}


@pytest.mark.parametrize(
    "convention, gamma",
    [("video_nonlocal_net", 0), ("pyslowfast", 0), ("mmaction2", 1), ("gluoncv", 1)],
)
def test_last_gamma_of_residual_blocks_follows_the_convention(convention, gamma):
    model = C2D(input_shape=CLIP, convention=convention, **SMALL)
    for layer in model.layers:
        if hasattr(layer, "gamma"):
            expected = gamma if layer.name.endswith("branch2c_bn") else 1
            assert (numpy(layer.gamma) == expected).all(), layer.name
            assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)


def test_weights_start_as_published():
    model = I3D(14, 400, (2, 32, 32, 3), width=32)
    fan_out = 5 * 7 * 7 * 32
    assert numpy(model.get_layer("conv1").kernel).std() == pytest.approx(
        (2 / fan_out) ** 0.5, rel=0.03
    )
    assert not model.get_layer("conv1").use_bias
    pred = model.get_layer("pred")
    assert numpy(pred.kernel).std() == pytest.approx(0.01, rel=0.01)
    assert not numpy(pred.bias).any()


def test_dropout_is_on_the_pooled_features_in_training_only():
    model = C2D(input_shape=CLIP, dropout_rate=0.5, **SMALL)
    layer = model.get_layer("dropout")
    x = np.ones((4, 200), "float32")
    assert set(np.unique(numpy(layer(x, training=True)))) == {0.0, 2.0}
    np.testing.assert_array_equal(numpy(layer(x)), x)
    assert layer.input is model.get_layer("pool5").output


def test_without_top_the_features_of_res5_come_out():
    model = C2D(input_shape=CLIP, **SMALL)
    headless = C2D(input_shape=CLIP, include_top=False, **SMALL)
    for weight, value in zip(headless.weights, model.weights, strict=False):
        weight.assign(value)
    features = keras.Model(model.input, model.get_layer("res5").output)
    x = clips(1, *CLIP)
    np.testing.assert_array_equal(numpy(headless(x)), numpy(features(x)))
    assert "pred" not in [layer.name for layer in headless.layers]


def test_stage_output_includes_its_last_non_local_block():
    model = C2D(input_shape=CLIP, non_local={"res4": [0]}, **SMALL)
    block = model.get_layer("res4_0_nonlocal")
    assert model.get_layer("res4").input is block.output


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits_close_to_float32(policy):
    reference = I3D(input_shape=CLIP, non_local={"res3": [0]}, **SMALL)
    keras.config.set_dtype_policy(policy)
    try:
        model = I3D(input_shape=CLIP, non_local={"res3": [0]}, **SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    assert copy_weights(reference, model) == []
    x = clips(2, *CLIP)
    logits, expected = model(x), numpy(reference(x))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")
    assert np.abs(numpy(logits) - expected).max() < 0.02 * np.abs(expected).max()


def test_channels_stay_last_under_a_channels_first_setting():
    expected = C2D(input_shape=CLIP, non_local={"res3": [0]}, **SMALL)
    keras.config.set_image_data_format("channels_first")
    try:
        model = C2D(input_shape=CLIP, non_local={"res3": [0]}, **SMALL)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert copy_weights(expected, model) == []
    x = clips(1, *CLIP)
    np.testing.assert_array_equal(numpy(model(x)), numpy(expected(x)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 18}, r"`depth` of C2D. Expected one of \(14, 26, 50, 101, 152\)"),
        ({"stem": "8x4"}, r"`stem` of C2D.*Did you mean '8x8'"),
        ({"convention": "slowfast"}, r"`convention` of C2D.*mean 'pyslowfast'"),
        ({"num_classes": 0}, r"`num_classes` of C2D. Expected a positive integer"),
        ({"width": 2.5}, r"`width` of C2D. Expected a positive integer"),
        ({"dropout_rate": 1.5}, r"`dropout_rate` of C2D. Expected a number in \[0, 1"),
        ({"dropout_rate": "0.5"}, r"`dropout_rate` of C2D. Expected a number"),
        ({"input_shape": (224, 224, 3)}, r"`input_shape` of C2D. Expected \(frames"),
        ({"input_shape": (8, 32, 32, None)}, r"all but channels may be None"),
        ({"input_shape": (8, 0, 32, 3)}, r"`input_shape` of C2D"),
        ({"input_shape": 224}, r"`input_shape` of C2D"),
        ({"input_shape": (1, 32, 32, 3)}, r"too small: pool2 .* few along T"),
        ({"input_shape": (8, 32, 4, 3)}, r"too small: pool1 .* few along W"),
        (
            {"non_local_options": {"name": "x"}},
            r"`non_local_options` of C2D. Expected a dict without 'name'",
        ),
        ({"non_local_options": ["mode"]}, r"`non_local_options` of C2D. Expected a d"),
        (
            {"non_local": {"res3": [0]}, "non_local_options": {"mode": "gausian"}},
            r"`mode` of NonLocal3D.*Did you mean 'gaussian'",
        ),
        (
            {"non_local_options": {"res3": {"name": "x"}}},
            r"`non_local_options` of C2D. .* a stage's name a dict for that stage",
        ),
        ({"non_local_options": {"res3": 4}}, r"`non_local_options` of C2D. Expected"),
        (
            {"non_local_options": {"res3": {"mode": "gausian"}}},
            r"`mode` of NonLocal3D.*Did you mean 'gaussian'",
        ),
        (
            {"non_local": {"res5": [0]}, "input_shape": (8, 32, 32, 3)},
            r"'res5_0_nonlocal': the map is too small",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        C2D(**({"input_shape": CLIP} | SMALL | arguments))


@pytest.mark.parametrize(
    "convention, theta_bias, output_bias",
    [
        ("video_nonlocal_net", True, True),
        ("pyslowfast", True, True),
        ("mmaction2", True, False),
        ("gluoncv", True, True),
        ("paper", True, True),
    ],
)
def test_conventions_choose_biases(convention, theta_bias, output_bias):
    model = C2D(
        14, 3, (2, 32, 32, 3), width=4, non_local={"res3": [0]}, convention=convention
    )
    block = model.get_layer("res3_0_nonlocal")
    assert [block.theta.use_bias, block.w_z.use_bias] == [theta_bias, output_bias]


@pytest.mark.parametrize(
    ("convention", "deviation"),
    [("video_nonlocal_net", 0.01), ("paper", (2 / 32) ** 0.5)],
)
def test_conventions_choose_how_blocks_start(convention, deviation):
    block = {"res3": [0]}
    model = C2D(14, 3, (2, 32, 32, 3), width=8, non_local=block, convention=convention)
    kernel = keras.ops.convert_to_numpy(model.get_layer("res3_0_nonlocal").theta.kernel)
    assert kernel.shape == (64, 32)
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.1)
