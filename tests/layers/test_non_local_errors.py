import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal1D, NonLocal2D, NonLocal3D, NonLocalBlock


@pytest.mark.parametrize(
    ("layer_class", "options", "message"),
    [
        (NonLocal3D, {"mode": "embedded"}, "NonLocal3D.*Did you mean 'embedded_gau"),
        (NonLocal3D, {"pool_position": "inside"}, "argument `pool_position`"),
        (NonLocal3D, {"scope": "spacetme"}, "Did you mean 'spacetime'"),
        (NonLocal3D, {"normalization": "layer"}, "argument `normalization`"),
        (NonLocal3D, {"data_format": "NCHW"}, "argument `data_format`"),
        (NonLocal3D, {"use_scale": "no"}, "argument `use_scale`.*use_scale='no'"),
        (NonLocal3D, {"sub_sample": 2}, "argument `sub_sample`.*sub_sample=2"),
        (NonLocal3D, {"normalization_options": "abc"}, "Expected a dict of arguments"),
        (NonLocal3D, {"group_size": 0}, "positive integer. Received: group_size=0"),
        (NonLocal3D, {"intermediate_channels": 2.5}, "`intermediate_channels`"),
        (NonLocal3D, {"scope": "space", "group_size": 2}, "with scope='space'"),
        (
            NonLocal3D,
            {"normalization": None, "normalization_options": {"momentum": 0.9}},
            "`normalization_options` were given with normalization=None",
        ),
        (NonLocal2D, {"scope": "time"}, "NonLocal2D.*needs a time axis"),
        (NonLocal1D, {"group_size": 2}, "NonLocal1D.*needs a time axis"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(layer_class, options, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**options)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (NonLocal3D(name="nl"), (2, 4, 4, 8), r"NonLocal3D 'nl' expects .*rank 5"),
        (NonLocalBlock(), (2, 8), "rank 3, .*or rank 4, .*or rank 5"),
        (NonLocal2D(), (2, 4, 4, None), "the channel axis must be defined"),
        (NonLocal3D(), (2, 4, 1, 4, 8), r"too small.*sub_sample=False.*\(2, 4, 1, 4"),
        (NonLocal1D(), (2, 1, 8), "too small"),
        (NonLocal3D(group_size=3), (2, 4, 4, 4, 8), "4, is not a multiple of group_si"),
        (NonLocalBlock(scope="time"), (2, 4, 4, 8), "needs a time axis"),
        (
            NonLocal3D(data_format="channels_first"),
            (2, 8, 4, 4, 1),
            "too small.*channels_first",
        ),
    ],
    ids=str,
)
def test_wrong_shapes_are_refused_at_build(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_a_size_unknown_at_build_is_checked_at_the_call():
    layer = NonLocal3D(group_size=2)
    layer(keras.Input((None, None, None, 8)))
    with pytest.raises(ValueError, match="is not a multiple of group_size=2"):
        layer(np.zeros((1, 3, 4, 4, 8), "float32"))


def test_other_channels_than_built_for_are_refused():
    layer = NonLocal2D()
    layer.build((None, 4, 4, 8))
    with pytest.raises(ValueError, match="expected axis -1.*to have value 8"):
        layer(np.zeros((1, 4, 4, 6), "float32"))


def test_time_scope_needs_no_space_to_pool():
    x = np.ones((1, 4, 1, 1, 8), "float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(NonLocal3D(scope="time")(x)), x
    )


def test_frames_left_over_never_run_into_the_next_clip():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow's graphs have sizes unknown at the call")
    import tensorflow as tf

    layer = NonLocal3D(group_size=3)
    layer.build((None, None, None, None, 8))
    dynamic = tf.TensorSpec((None, None, None, None, 8))
    call = tf.function(layer, input_signature=[dynamic])
    for batch in (1, 3):  # 3 clips of 4 frames are 4 groups of 3, wrongly
        with pytest.raises(tf.errors.InvalidArgumentError):
            call(np.zeros((batch, 4, 4, 4, 8), "float32"))
