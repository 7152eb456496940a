"""Attention maps in frame coordinates, and the arrows drawn from them."""

import builtins
import io

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.figure import Figure

from keras_nonlocal import C2D, NonLocal1D, NonLocal2D, NonLocal3D
from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import (
    attention_maps,
    attention_of_blocks,
    draw_arrows,
    draw_heat,
    encode_animation,
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


OBJECTS = {  # where the object is, attended from (0, 4, 8) in the same group
    "spacetime": ({}, (6, 20, 24)),
    "groups of frames": ({"group_size": 2}, (2, 20, 24)),
    "space": ({"scope": "space"}, (0, 20, 24)),
    "time": ({"scope": "time"}, (6, 4, 8)),
    "time, groups": ({"scope": "time", "group_size": 2}, (2, 4, 8)),
}
POOLINGS = {
    "all keys": {"sub_sample": False},
    "pooled before": {"pool_position": "before"},
    "pooled after": {"pool_position": "after"},
}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("scope", OBJECTS)
def test_strongest_arrow_ends_on_the_attended_object(scope, pooling):
    options, (t, y, x) = OBJECTS[scope]
    clip = np.random.default_rng(0).uniform(0, 0.1, (1, 8, 32, 32, 2))
    clip[0, 0:2, 4:8, 8:12] = [2, 0]
    clip[0, t : t + 2, y : y + 4, x : x + 4] = [4, 0]  # more similar than x_i itself
    if scope == "space":
        clip[0, 6:8, 12:16, 24:28] = [8, 0]  # another frame is not attended to
    stem = layers.AveragePooling3D((2, 4, 4), name="stem")
    inputs = keras.Input(clip.shape[1:])
    block = NonLocal3D(
        intermediate_channels=2, **options, **POOLINGS[pooling], name="block"
    )
    model = keras.Model(inputs, block(stem(inputs)))
    for embedding in (block.theta, block.phi):
        embedding.kernel.assign(np.eye(2))
    maps = attention_maps(model, clip.astype("float32"), "block", [(0, 6, 10)])
    keys, weights = top_connections(maps.scores[0], 0, k=1)
    figure = draw_arrows(
        clip[0, ..., [0, 0, 0]].transpose(1, 2, 3, 0) / 4,
        maps.centres[0],
        maps.keys.centres[keys],
        weights,
    )
    (end,) = arrow_ends(figure)
    np.testing.assert_array_equal(maps.centres, [[0.5, 5.5, 9.5]])
    centre = strip_coordinates([(t, y + 1.5, x + 1.5)], 32)[0]
    assert (np.abs(end - centre) <= np.array(maps.keys.stride[:0:-1]) / 2).all()


def test_rows_of_a_group_need_no_map_of_it():
    # The map of each group would have 2 * 256 * 256 queries and keys, 64 GiB.
    shape, options = (4, 256, 256, 1), {"group_size": 2, "sub_sample": False}
    model = video_model(shape, mode="dot_product", algorithm="linear", **options)
    clips = random_clips(model, 1)
    maps = attention_maps(model, clips, "block", [(3, 10, 20), (1, 0, 0)])
    block = model.get_layer("block")
    half = shape[1] * shape[2] * 2
    assert maps.scores.shape == (1, 2, 2 * half)
    assert maps.row_groups.tolist() == [1, 0]
    phi = block.phi(clips.reshape(1, 2 * half, 1))
    theta = block.theta(clips[:, 3, 10, 20][:, None])
    expected = keras.ops.convert_to_numpy(theta * phi)[0, half:, 0] / half
    np.testing.assert_allclose(maps.scores[0, 0, half:], expected, atol=1e-9)
    assert not maps.scores[0, 0, :half].any() and maps.scores[0, 1, :half].any()


@pytest.mark.parametrize(
    "options", [{}, {"scope": "space"}, {"scope": "time"}, {"group_size": 2}], ids=str
)
def test_even_rows_are_those_of_the_whole_map(options):
    inputs = keras.Input((4, 12, 12, 2))  # along time there are many groups
    x = NonLocal3D(name="first", **options)(inputs)
    model = keras.Model(inputs, NonLocal3D(name="second")(x))
    clips = random_clips(model)
    found = attention_of_blocks(model, clips, max_rows=100)
    assert list(found) == ["first", "second"]
    for name, maps in found.items():
        whole = attention_maps(model, clips, name)
        assert 50 < len(maps.rows) <= 100
        np.testing.assert_allclose(
            maps.scores, whole.scores[:, maps.rows], rtol=1e-5, atol=1e-8
        )
        np.testing.assert_array_equal(maps.centres, whole.centres[maps.rows])
        np.testing.assert_array_equal(maps.attends, whole.attends[maps.rows])
        np.testing.assert_array_equal(maps.attends, maps.scores[0] > 0)


def test_models_without_blocks_are_refused():
    inputs = keras.Input((4, 4, 4, 1))
    model = keras.Model(inputs, layers.ReLU()(inputs), name="plain")
    with pytest.raises(ValueError, match="'plain' has no non-local blocks"):
        attention_of_blocks(model, np.zeros((1, 4, 4, 4, 1), "float32"))


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


def test_labels_are_in_the_corners_of_their_frames():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    figure = draw_arrows(frames, (0, 4, 4), [(1, 2, 2)], labels=["first", "second"])
    _, *labels = figure.axes[0].texts
    assert [label.get_text() for label in labels] == ["first", "second"]
    assert [label.xy for label in labels] == [(0, 0), (12, 0)]


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


def test_negative_weights_are_drawn_as_the_weakest():
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    for weights in ([1.0, -2.0], [-1.0, -2.0]):
        figure = draw_arrows(frames, (0, 4, 4), [(0, 1, 1), (0, 2, 2)], weights)
        assert figure.axes[0].texts[1].arrowprops["alpha"] == 0.25


# === Heat and animations ===


def test_heat_lies_on_its_keys_and_between_them():
    # Keys of two times, at rows 1.5 and 5.5: frames 0 and 1 have the first time.
    keys = Grid((2, 2, 1), (0.5, 1.5, 0.0), (2.0, 4.0, 1.0))
    images = draw_heat(np.zeros((4, 8, 1, 3)), [0, 1, 0.5, -3], keys, opacity=1)
    # Colour (2 w, w, 0) with the opacity w.
    assert images[:2, 6].tolist() == 2 * [[[255, 255, 0]]]
    w = 0.25 + 0.125  # row 3 lies 3/8 of the way
    np.testing.assert_allclose(
        images[0, 3, 0], 255 * w * np.array([2 * w, w, 0]), atol=1
    )
    assert images[2, 1, 0].tolist() == [128, 64, 0]
    assert not images[2:, 6].any()


@pytest.mark.parametrize("place", [(20, 11), (0, 31)])
def test_the_query_is_a_cross_on_the_heat(place):
    keys = Grid((2, 4, 4), (0.0, 3.5, 3.5), (1.0, 8.0, 8.0))
    frames = np.full((2, 32, 32, 3), 90, np.uint8)
    images = draw_heat(frames, np.zeros(32), keys, query=(1.0, *place))
    assert (images[0] == 90).all()
    rows, columns = np.nonzero((images[1] == 255).all(axis=2))
    inside = [(y, x) for y, x in zip(rows, columns, strict=True)]
    assert place in inside and images[1][place].tolist() == [255] * 3
    assert max(abs(np.array(inside) - place).max(axis=0)) == 2
    assert {y for y, x in inside if x != place[1]} == {place[0]}
    assert {x for y, x in inside if y != place[0]} == {place[1]}


def test_heat_of_other_sizes_is_refused():
    with pytest.raises(ValueError, match="the weight of each of"):
        draw_heat(np.zeros((1, 8, 8, 3)), [1, 2], Grid((1, 2, 2), (0, 0, 0), (1, 4, 4)))


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_animations_hold_the_images(suffix):
    images = np.zeros((4, 15, 20, 3), np.uint8)  # odd: H.264 pads
    images[[1, 3]] = 200
    contents = io.BytesIO(encode_animation(images, suffix, frames_per_second=5))
    if suffix == ".gif":
        image = pytest.importorskip("PIL.Image").open(contents)
        assert image.info["duration"] == 200
        frames = [image.convert("RGB") for _ in iterate(image)]
    else:
        av = pytest.importorskip("av")
        with av.open(contents) as video:
            assert video.streams.video[0].average_rate == 5
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode()]
    means = [np.asarray(frame).mean() for frame in frames]
    np.testing.assert_allclose(means, [0, 200, 0, 200], atol=3)


def iterate(image):
    for number in range(image.n_frames):
        image.seek(number)
        yield number


@pytest.mark.parametrize(
    ("images", "suffix", "message"),
    [
        (np.zeros((1, 8, 8, 3)), ".gif", "as bytes"),
        (np.zeros((8, 8, 3), "uint8"), ".gif", "as bytes"),
        (
            np.zeros((1, 8, 8, 3), "uint8"),
            ".avi",
            r"\['.gif', '.mp4'\]. Received: '.avi'",
        ),
    ],
)
def test_invalid_animations_are_refused(images, suffix, message):
    with pytest.raises(ValueError, match=message):
        encode_animation(images, suffix)
