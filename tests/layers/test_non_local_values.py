import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D, NonLocalBlock
from tests.backends import assert_close, to_numpy
from tests.layers.blocks import SHAPES, expected_output, random_block, random_input

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


def check(layer, rank, **call_options):
    x = random_input(rank)
    expected = expected_output(layer, x, **call_options)
    actual = layer(x, **call_options)
    assert_close(actual, expected)
    return to_numpy(actual)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sub_sample", [True, False])
def test_equals_the_equations(rank, mode, sub_sample):
    check(random_block(rank, mode=mode, sub_sample=sub_sample), rank)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [
        {"pool_position": "after"},
        {"use_bias": False},
        {"use_output_bias": False},
        {"use_bias": False, "use_output_bias": True},
        {"intermediate_channels": 3},
        {"normalization": None},
        {"scope": "space"},
        {"scope": "time"},
        {"scope": "time", "group_size": 2},
        {"group_size": 2},
        {"group_size": 1},
    ],
    ids=str,
)
def test_every_option_equals_the_equations_and_changes_the_numbers(mode, options):
    x = random_input()
    changed = check(random_block(mode=mode, **options), 3)
    plain = to_numpy(random_block(mode=mode)(x))
    assert np.abs(changed - plain).max() > 1e-3


def test_use_scale_divides_the_exponent_by_the_square_root_of_the_width():
    scaled = check(random_block(intermediate_channels=3), 3)
    unscaled = check(random_block(intermediate_channels=3, use_scale=False), 3)
    assert np.abs(scaled - unscaled).max() > 1e-3


@pytest.mark.parametrize("mode", ["gaussian", "dot_product", "concatenation"])
def test_use_scale_belongs_to_the_embedded_gaussian(mode):
    x = random_input()
    outputs = [random_block(mode=mode, use_scale=s)(x) for s in (True, False)]
    np.testing.assert_array_equal(*map(to_numpy, outputs))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_training_normalises_by_the_batch_and_moves_the_statistics(rank):
    layer = random_block(rank)
    before = to_numpy(layer.norm.moving_mean)
    check_weights = expected_output(layer, random_input(rank), training=True)
    assert_close(layer(random_input(rank), training=True), check_weights)
    assert np.abs(to_numpy(layer.norm.moving_mean) - before).max() > 1e-3


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_channels_first_gives_the_same_numbers(rank, mode):
    x = random_input(rank)
    expected, expected_scores = random_block(rank, mode=mode)(
        x, return_attention_scores=True
    )
    layer = random_block(rank, mode=mode, data_format="channels_first")
    actual, scores = layer(np.moveaxis(x, -1, 1), return_attention_scores=True)
    assert_close(np.moveaxis(to_numpy(actual), 1, -1), to_numpy(expected))
    assert_close(scores, to_numpy(expected_scores))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_non_local_block_takes_its_rank_from_the_input(rank):
    x = random_input(rank)
    layer = random_block(rank, layer_class=NonLocalBlock)
    assert_close(layer(x), to_numpy(random_block(rank)(x)).astype("float64"))


@pytest.mark.parametrize("normalization", ["batch", None])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [False, True])
def test_is_an_exact_identity_at_initialisation(normalization, mode, training):
    x = random_input().astype("float32")
    layer = NonLocal3D(mode=mode, normalization=normalization)
    np.testing.assert_array_equal(to_numpy(layer(x, training=training)), x)


@pytest.mark.parametrize("mode", MODES)
def test_sublayers_start_different_from_one_another(mode):
    layer = NonLocal3D(mode=mode, kernel_initializer=keras.initializers.HeNormal(3))
    layer.build(SHAPES[3])
    kernels = [to_numpy(w) for w in layer.weights if w.path.endswith("kernel")]
    same_shape = [k for k in kernels if k.shape == kernels[0].shape]
    assert len(kernels) == {"gaussian": 2, "concatenation": 5}.get(mode, 4)
    for a, b in zip(same_shape, same_shape[1:], strict=False):
        assert np.abs(a - b).max() > 1e-3


def test_a_permutation_of_space_permutes_the_output():
    layer = random_block(sub_sample=False)
    x = random_input()
    batch, frames, height, width, channels = x.shape
    order = np.random.default_rng(3).permutation(frames * height * width)

    def permute(t):
        return t.reshape(batch, -1, channels)[:, order].reshape(x.shape)

    assert_close(layer(permute(x)), permute(to_numpy(layer(x))).astype("float64"))


def test_odd_maps_drop_their_last_row_and_column_from_the_keys():
    x = np.random.default_rng(0).normal(size=(1, 1, 7, 7, 4))
    _, scores = NonLocal3D()(x, return_attention_scores=True)
    assert tuple(scores.shape) == (1, 49, 9)


def test_keys_are_never_pooled_over_time():
    x = np.random.default_rng(0).normal(size=(1, 5, 2, 2, 4))
    _, scores = NonLocal3D()(x, return_attention_scores=True)
    assert tuple(scores.shape) == (1, 20, 5)
