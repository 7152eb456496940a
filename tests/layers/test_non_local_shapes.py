import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D, NonLocalBlock
from tests.backends import assert_close, to_numpy
from tests.layers.blocks import functional, random_block, random_input

OPTIONS = [
    {"scope": "spacetime"},
    {"scope": "space"},
    {"scope": "time"},
    {"scope": "time", "group_size": 2},
    {"group_size": 2},
    {"sub_sample": False},
    {"mode": "concatenation", "pool_position": "after"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_symbolic_and_eager_calls_agree_on_every_shape(options):
    x = random_input()
    layer = random_block(**options)
    outputs = layer(x, return_attention_scores=True)
    spec = layer.compute_output_spec(
        keras.KerasTensor(x.shape), return_attention_scores=True
    )
    assert [tuple(t.shape) for t in outputs] == [tuple(t.shape) for t in spec]
    assert layer.compute_output_shape(x.shape) == x.shape
    one = layer.compute_output_spec(keras.KerasTensor(x.shape))
    assert tuple(one.shape) == x.shape


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_dynamic_axes_give_the_numbers_of_static_ones(options):
    x = random_input().astype("float32")
    layer = random_block(**options)
    expected, expected_scores = layer(x, return_attention_scores=True)
    model = functional(layer, (None, None, None, 4), return_attention_scores=True)
    actual, scores = model.predict(x, verbose=0)
    assert_close(actual, to_numpy(expected).astype("float64"), 2e-5)
    assert_close(scores, to_numpy(expected_scores).astype("float64"), 2e-5)


def test_attention_scores_are_those_that_mix_the_values():
    layer, x = random_block(mode="gaussian", sub_sample=False), random_input()
    _, scores = layer(x, return_attention_scores=True)
    g = to_numpy(layer.g(x)).reshape(2, -1, 2)
    y = (to_numpy(scores) @ g).reshape(*x.shape[:-1], 2)
    z = to_numpy(layer.norm(layer.w_z(y), training=False))
    assert_close(layer(x), (x + z).astype("float64"))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("mode", ["gaussian", "embedded_gaussian", "concatenation"])
def test_reduced_precision_is_close_to_full(dtype, mode):
    x = random_input().astype("float32")
    full = random_block(mode=mode)
    half = NonLocal3D(mode=mode, dtype=dtype)
    half.build(x.shape)
    for target, source in zip(half.weights, full.weights, strict=True):
        target.assign(to_numpy(source).astype("float32"))
    actual = half(x)
    assert keras.backend.standardize_dtype(actual.dtype) == half.compute_dtype
    expected = to_numpy(full(x)).astype("float64")
    actual = to_numpy(keras.ops.cast(actual, "float32"))
    assert_close(actual, expected, 0.1 if "bfloat16" in dtype else 0.02)


@pytest.mark.parametrize(
    "mode",
    [
        "embedded_gaussian",
        pytest.param("dot_product", marks=pytest.mark.slow),
        pytest.param("concatenation", marks=pytest.mark.slow),
    ],
)
def test_compiled_by_xla_gives_the_same_numbers_and_trains(mode):
    if keras.backend.backend() == "torch":
        pytest.skip("torch has its own compiler; jit_compile there is torch.compile")
    x = random_input().astype("float32")
    layer = random_block(mode=mode)
    model = functional(NonLocalBlock.from_config(layer.get_config()), x.shape[1:])
    model.layers[-1].set_weights(layer.get_weights())
    model.compile("sgd", "mse", jit_compile=True)
    expected = to_numpy(layer(x)).astype("float64")
    assert_close(model.predict(x, verbose=0), expected, 2e-5)
    before = to_numpy(model.layers[-1].theta.kernel)
    model.fit(x, np.zeros_like(x), epochs=1, verbose=0)
    assert np.abs(to_numpy(model.layers[-1].theta.kernel) - before).max() > 0
