"""Attention maps in frame coordinates, and the arrows drawn from them."""

import builtins

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.figure import Figure

from keras_nonlocal import C2D, NonLocal1D, NonLocal2D, NonLocal3D
from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import (
    attention_maps,
    draw_arrows,
    strip_coordinates,
    top_connections,
)


def video_model(shape=(4, 4, 6, 3), **options):
    inputs = keras.Input(shape)
    return keras.Model(inputs, NonLocal3D(name="block", **options)(inputs))


def random_clips(model, batch=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, *model.input_shape[1:])).astype("float32")


def arrow_ends(figure):
    return [np.array(arrow.xy) for arrow in figure.axes[0].texts]


# === Attention maps ===


def test_planted_match_is_the_top_connection_at_its_pixel():
    # A blob in frame 0 and its copy in frame 3, on noise too weak to match.
    clip = np.zeros((1, 4, 32, 32, 1), "float32")
    clip[0, 0, 4:8, 8:12] = clip[0, 3, 20:24, 24:28] = 4.0
    inputs = keras.Input(clip.shape[1:])
    x = layers.AveragePooling3D((1, 4, 4), name="stem")(inputs)
    x = NonLocal3D("gaussian", sub_sample=False, name="block")(x)
    maps = attention_maps(keras.Model(inputs, x), clip, "block")
    query = maps.queries.nearest(0, 6, 10)
    keys, weights = top_connections(maps.scores[0], query, k=2)
    assert maps.queries.centres[query].tolist() == [0, 5.5, 9.5]
    assert maps.keys.centres[keys].tolist() == [[0, 5.5, 9.5], [3, 21.5, 25.5]]
    # exp(4 * 4) against 254 others of exp(0).
    np.testing.assert_allclose(weights, 0.5, rtol=1e-4)
    figure = draw_arrows(clip[0], maps.queries.centres[query], maps.keys.centres[keys])
    width = 32 + 4
    np.testing.assert_array_equal(arrow_ends(figure)[1], [3 * width + 25.5, 21.5])


@pytest.mark.parametrize("mode", ["embedded_gaussian", "dot_product"])
def test_scores_are_those_of_the_layer(mode):
    model = video_model(mode=mode)
    clips = random_clips(model)
    maps = attention_maps(model, clips, "block")
    _, scores = model.get_layer("block")(clips, return_attention_scores=True)
    expected = keras.ops.convert_to_numpy(scores)
    np.testing.assert_array_equal(maps.scores, expected)
    assert maps.scores.shape == (2, 4 * 4 * 6, 4 * 2 * 3)


@pytest.mark.parametrize("options", [{}, {"scope": "space"}], ids=str)
def test_rows_of_chosen_positions_are_those_of_the_whole_map(options):
    model = video_model(**options)
    clips = random_clips(model)
    whole = attention_maps(model, clips, "block")
    some = attention_maps(model, clips, "block", positions=[(3, 1, 5), (0, 0, 0)])
    rows = [whole.queries.nearest(3, 1, 5), 0]
    assert some.rows.tolist() == rows
    assert whole.rows.tolist() == list(range(whole.scores.shape[1]))
    np.testing.assert_allclose(some.scores, whole.scores[:, rows], rtol=1e-6)


@pytest.mark.parametrize("positions", [(3, 1, 5), [(3, 1)], []])
def test_invalid_positions_are_refused(positions):
    model = video_model()
    with pytest.raises(ValueError, match=r"as a list of \(t, y, x\)"):
        attention_maps(model, random_clips(model), "block", positions=positions)


def test_c2d_maps_lie_on_the_clip():
    options = {"width": 4, "non_local": {"res3": [0]}}
    model = C2D(14, 2, (8, 64, 64, 3), **options)
    maps = attention_maps(model, random_clips(model, 1), "res3_0_nonlocal")
    # conv1 / 2, pool1 / 2 without padding (+2), res3 / 2; pool2 in time (+0.5).
    assert maps.queries == Grid((4, 8, 8), (0.5, 2.0, 2.0), (2.0, 8.0, 8.0))
    assert maps.keys == Grid((4, 4, 4), (0.5, 6.0, 6.0), (2.0, 16.0, 16.0))
    np.testing.assert_allclose(maps.scores.sum(2), 1, rtol=1e-5)


def test_restricted_attention_is_zero_between_groups():
    t, y, x = np.indices((4, 4, 6)).reshape(3, -1)
    place = y * 6 + x
    cases = {
        "space": (video_model(scope="space", sub_sample=False), t),
        "time": (video_model(scope="time"), place),
        "groups of 2": (video_model(group_size=2, sub_sample=False), t // 2),
        "time, groups of 2": (
            video_model(scope="time", group_size=2),
            place * 2 + t // 2,
        ),
    }
    for name, (model, group) in cases.items():
        scores = attention_maps(model, random_clips(model), "block").scores
        together = group[:, None] == group[None]
        np.testing.assert_array_equal(
            scores > 0, np.broadcast_to(together, scores.shape), err_msg=name
        )
        np.testing.assert_allclose(scores.sum(2), 1, rtol=1e-5, err_msg=name)


def test_pooled_keys_of_a_frame_stay_in_its_group():
    model = video_model(scope="space")
    maps = attention_maps(model, random_clips(model), "block")
    together = maps.queries.centres[:, None, 0] == maps.keys.centres[None, :, 0]
    np.testing.assert_array_equal(maps.scores[0] > 0, together)


def test_blocks_of_rank_1_and_2():
    for block, shape, queries, keys in (
        (NonLocal1D(name="block"), (12, 4), (12,), (6,)),
        (NonLocal2D(name="block"), (6, 7, 4), (6, 7), (3, 3)),
    ):
        inputs = keras.Input(shape)
        model = keras.Model(inputs, block(inputs))
        maps = attention_maps(model, random_clips(model), "block")
        assert (maps.queries.shape, maps.keys.shape) == (queries, keys)
        assert maps.keys.start == (0.5,) * len(keys)


def test_sequential_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.MaxPooling2D(2),
            NonLocal2D(name="block", sub_sample=False),
        ]
    )
    maps = attention_maps(model, random_clips(model), "block")
    assert maps.queries == maps.keys == Grid((4, 4), (0.5, 0.5), (2, 2))


def test_wrong_layers_are_named():
    model = video_model()
    clips = random_clips(model)
    for name in ("blok", model.layers[0].name):
        with pytest.raises(ValueError, match=r"one of \['block'\]. Received"):
            attention_maps(model, clips, name)


def test_channels_first_is_refused():
    inputs = keras.Input((3, 4, 4, 4))
    block = NonLocal3D(data_format="channels_first", name="block")
    model = keras.Model(inputs, block(inputs))
    with pytest.raises(ValueError, match="need 'channels_last'"):
        attention_maps(model, random_clips(model), "block")


def test_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = NonLocal3D(name="block")

        def call(self, x):
            return self.block(x)

    model = Subclassed()
    clips = np.zeros((1, 4, 4, 4, 2), "float32")
    model(clips)
    with pytest.raises(ValueError, match="functional or Sequential"):
        attention_maps(model, clips, "block")


# === Top connections ===


def test_top_connections_are_sorted_and_ties_keep_their_order():
    scores = np.array([[0.0, 0.0, 0.0, 0.0], [0.1, 0.4, 0.1, 0.4]])
    keys, weights = top_connections(scores, 1, k=3)
    assert keys.tolist() == [1, 3, 0] and weights.tolist() == [0.4, 0.4, 0.1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 2, 3)), 0), "take one clip"),
        ((np.zeros((2, 3)), 2, 1), "query < 2"),
        ((np.zeros((2, 3)), 0, 4), "k - 1 < 3"),
        ((np.zeros((2, 3)), 0, 0), "0 <= k - 1"),
    ],
)
def test_top_connections_outside_the_scores_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_connections(*arguments)


# === Arrows ===


def test_arrows_start_at_the_query_and_end_at_the_keys():
    frames = np.zeros((3, 10, 20, 3), np.uint8)
    targets = [(0, 1, 2), (1.5, 9, 0), (2, 0, 19)]
    figure = draw_arrows(frames, (1, 4, 5), targets, [1.0, 0.5, 0.0])
    ends = [[2, 1], [24, 9], [48 + 19, 0]]
    np.testing.assert_array_equal(arrow_ends(figure), ends)
    for arrow, alpha in zip(figure.axes[0].texts, (1, 0.625, 0.25), strict=True):
        assert arrow.xyann == (24 + 5, 4)
        assert arrow.arrowprops["alpha"] == alpha


def test_frames_are_shown_where_the_arrows_expect_them():
    frames = np.arange(3 * 4 * 6 * 3, dtype=np.uint8).reshape(3, 4, 6, 3)
    figure = draw_arrows(frames, (0, 0, 0), [(0, 0, 0)])
    for t, image in enumerate(figure.axes[0].images):
        np.testing.assert_array_equal(image.get_array(), frames[t])
        (left, top), (right, bottom) = strip_coordinates(
            [(t, -0.5, -0.5), (t, 3.5, 5.5)], frame_width=6
        )
        assert tuple(image.get_extent()) == (left, right, bottom, top)


def test_figure_is_saved_as_a_picture(tmp_path):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    figure = draw_arrows(frames, (0, 4, 4), [(1, 2, 2)])
    path = tmp_path / "arrows.png"
    figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_arrows_are_drawn_in_axes_of_ones_own():
    figure = Figure()
    axes = figure.subplots(2)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    assert draw_arrows(frames, (0, 4, 4), [(1, 2, 3)], axes=axes[1]) is figure
    assert not axes[0].texts and axes[1].texts[0].xy == pytest.approx((12 + 3, 2))


@pytest.mark.parametrize(
    ("frames", "source", "message"),
    [
        (np.zeros((8, 8, 3)), (0, 0, 0), "Expected `frames`"),
        (np.zeros((2, 8, 8, 3)), (0, 0, 8), "outside the frames"),
        (np.zeros((2, 8, 8, 3)), (2, 0, 0), "outside the frames"),
    ],
)
def test_positions_outside_the_frames_are_refused(frames, source, message):
    with pytest.raises(ValueError, match=message):
        draw_arrows(frames, source, [(0, 0, 0)])


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        draw_arrows(np.zeros((1, 4, 4, 3)), (0, 0, 0), [(0, 0, 0)])
