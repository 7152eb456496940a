import numpy as np
import pytest
import tensorflow as tf

from trainers.video_classification.data import (
    normalize,
    read_views,
    resize_and_center_crop,
)
from trainers.video_classification.data.configs import ClipConfig
from trainers.video_classification.data.decoding.pyav import PyAVFrames


def test_normalize_subtracts_the_mean_and_divides_by_the_std():
    clip = ClipConfig(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    got = normalize(tf.constant([[[11, 16, 38]]], tf.uint8), clip)
    np.testing.assert_array_equal(got, [[[1.0, -2.0, 2.0]]])
    assert normalize(tf.zeros((1, 3), tf.uint8), clip, tf.bfloat16).dtype == tf.bfloat16


def test_normalize_defaults_to_the_authors_statistics():
    got = normalize(tf.constant([[0, 255, 0]], tf.uint8), ClipConfig())
    np.testing.assert_allclose(got, [[-2.0, 140.25 / 57.375, -2.0]], rtol=1e-6)


def test_frames_of_the_right_size_are_only_cut():
    clips = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 14, 3), np.uint8)
    got = resize_and_center_crop(tf.constant(clips), 8, 6)
    np.testing.assert_array_equal(got, clips[:, :, 1:7, 4:10])


@pytest.mark.parametrize("height, width", [(90, 160), (160, 90), (33, 47)])
def test_whole_frames_are_cropped_as_in_decoding(
    tmp_path, data_config, clip_config, clips, height, width
):
    smooth = np.random.default_rng(1).normal(size=(8, 4, 5, 3))
    frames = [
        tf.image.resize(f, (height, width), "bicubic").numpy() * 40 + 128
        for f in smooth
    ]
    frames = [np.clip(f, 0, 255).astype(np.uint8) for f in frames]
    from trainers.video_classification.data import write_video

    path = str(tmp_path / "a.mkv")
    write_video(path, frames, pix_fmt="yuv444p")
    data = data_config(min_short_side=64, max_short_side=64, crop_size=56)
    expected = read_views(path, data, clip_config)
    source = PyAVFrames(path)
    whole = [p.rgb() for _, p in source.pictures(np.array([0, 2, 4, 6]))]
    cut = tf.function(lambda x: resize_and_center_crop(x, 64, 56))
    spec = tf.TensorSpec((None, None, None, None, 3), tf.uint8)
    got = cut.get_concrete_function(spec)(tf.constant(np.stack(whole)[None]))
    difference = np.abs(got.numpy().astype(int) - expected.astype(int))
    assert difference.mean() < 1.5 and np.quantile(difference, 0.99) <= 6


def weights(side, scaled, begin, size):
    """(size, side): of each pixel, for `size` scaled ones from `begin` on."""
    ratio = side / scaled
    centers = (np.arange(begin, begin + size) + 0.5) * ratio - 0.5
    distances = np.abs(np.arange(side) - centers[:, None]) / max(ratio, 1)
    triangle = np.maximum(1 - distances, 0)
    return triangle / triangle.sum(1, keepdims=True)


def scaled_and_cut(frame, short_side, crop):
    """The whole frame scaled in float64, and the central square of it."""
    height, width = frame.shape[:2]
    sides = [
        max(round(side * short_side / min(height, width)), short_side)
        for side in (height, width)
    ]
    rows, columns = (
        weights(side, scaled, (scaled - crop) // 2, crop)
        for side, scaled in zip((height, width), sides, strict=True)
    )
    return np.einsum("yh,hwc,xw->yxc", rows, frame, columns, optimize=True)


@pytest.mark.parametrize(
    "height, width, short_side, crop",
    [
        (90, 160, 64, 56),
        (160, 90, 64, 64),
        (480, 854, 64, 56),
        (33, 47, 64, 56),
        (257, 341, 256, 56),
        (1, 1, 36, 32),
        (3, 5, 7, 3),
        (2, 3000, 64, 56),
        (3000, 2, 64, 56),
        (1, 3001, 32, 32),
        (5000, 70, 16, 15),
    ],
)
def test_it_is_the_square_of_the_scaled_frame(height, width, short_side, crop):
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    clips = tf.constant(frame[None, None])
    got = resize_and_center_crop(clips, short_side, crop)[0, 0].numpy()
    expected = scaled_and_cut(frame, short_side, crop)
    assert np.abs(got - expected).max() < 0.51  # it is rounded


def test_it_costs_the_memory_of_the_square_alone():
    frames = tf.zeros((1, 2, 20_000_000, 1, 3), tf.uint8)
    got = resize_and_center_crop(frames, 256, 224)  # scaled whole: 14 TiB
    assert got.shape == (1, 2, 224, 224, 3)


def test_it_is_antialiased():
    stripes = np.zeros((1, 1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    got = resize_and_center_crop(tf.constant(stripes), 16, 8).numpy()
    assert 120 <= got.min() and got.max() <= 135


def test_a_crop_larger_than_the_frame_is_an_error():
    with pytest.raises(ValueError, match="crop_size"):
        resize_and_center_crop(tf.zeros((1, 1, 9, 9, 3), tf.uint8), 8, 9)
