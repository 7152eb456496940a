import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D, NonLocalBlock
from tests.backends import to_numpy
from tests.layers.blocks import LAYERS, SHAPES, functional, random_block, random_input

OPTIONS = {
    "mode": "concatenation",
    "intermediate_channels": 3,
    "sub_sample": False,
    "pool_position": "after",
    "use_scale": False,
    "use_bias": False,
    "use_output_bias": True,
    "normalization": "batch",
    "normalization_options": {"momentum": 0.5},
    "scope": "time",
    "group_size": 2,
    "kernel_initializer": "he_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": "l2",
    "bias_regularizer": "l1",
    "activity_regularizer": "l1",
    "kernel_constraint": "max_norm",
    "bias_constraint": "non_neg",
    "data_format": "channels_first",
}


def test_config_keeps_every_argument():
    config = NonLocal3D(**OPTIONS, name="block").get_config()
    again = NonLocal3D.from_config(config)
    assert again.get_config() == config
    for name, value in OPTIONS.items():
        kept = config[name]
        if isinstance(kept, dict) and "class_name" in kept:
            continue  # a serialised Keras object: covered by the equality above
        assert kept == value, name
    again.build((None, 4, 4, 3, 3))
    assert again.norm.momentum == 0.5
    assert again.theta.kernel.regularizer is not None
    assert again.theta.kernel.constraint is not None


@pytest.mark.parametrize("layer_class", [*LAYERS.values(), NonLocalBlock])
def test_a_saved_model_gives_the_same_output(layer_class, tmp_path):
    rank = next((r for r, c in LAYERS.items() if c is layer_class), 2)
    x = random_input(rank).astype("float32")
    model = functional(random_block(rank, layer_class), SHAPES[rank][1:])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


def test_weights_carry_the_names_of_the_field():
    layer = NonLocal3D(mode="concatenation", name="nl")
    layer.build(SHAPES[3])
    assert [w.path for w in layer.weights] == [
        "nl/theta/kernel",
        "nl/theta/bias",
        "nl/phi/kernel",
        "nl/phi/bias",
        "nl/g/kernel",
        "nl/g/bias",
        "nl/concat_projection/kernel",
        "nl/w_z/kernel",
        "nl/w_z/bias",
        "nl/norm/gamma",
        "nl/norm/beta",
        "nl/norm/moving_mean",
        "nl/norm/moving_variance",
    ]


@pytest.mark.filterwarnings("ignore:.shuffle=True")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_passes_the_checks_of_keras_itself(rank):
    # A private API, kept to this one test: serialisation, build, fit, fp16.
    from keras.src.testing import TestCase

    TestCase("setUp").run_layer_test(
        LAYERS[rank],
        init_kwargs={"intermediate_channels": 3},
        input_shape=SHAPES[rank],
        expected_output_shape=SHAPES[rank],
        expected_num_trainable_weights=10,
        expected_num_non_trainable_weights=2,
        supports_masking=False,
    )


@pytest.mark.parametrize("mode", ["gaussian", "concatenation"])
def test_a_quantized_model_is_saved_and_loaded(mode, tmp_path):
    inputs = keras.Input((4, 6, 6, 16))
    model = keras.Model(inputs, NonLocal3D(mode=mode, normalization=None)(inputs))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    for dense in (model.layers[1].g, model.layers[1].w_z):
        dense.quantize("int8")
    x = rng.normal(size=(1, 4, 6, 6, 16)).astype("float32")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[1].g.quantization_mode == "int8"
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(model(x)))
    config = again.layers[1].get_config()
    assert NonLocal3D.from_config(config).get_config() == config
