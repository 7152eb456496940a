import numpy as np
import pytest

from trainers.video_classification.data.views import (
    RandomView,
    TestViews,
    Window,
    scaled_size,
)


@pytest.mark.parametrize(
    "size, scaled",
    [((240, 320), (256, 341)), ((320, 240), (341, 256)), ((7, 7), (256, 256))],
)
def test_short_side_is_scaled(size, scaled):
    assert scaled_size(*size, 256) == scaled


def test_three_crops_lie_along_the_long_side(data_config, clip_config):
    views = TestViews(data_config(num_test_crops=3), clip_config)
    assert views.windows(64, 128) == [
        Window(32, 64, 2, left, 28) for left in (0, 18, 36)
    ]
    assert views.windows(128, 64) == [Window(64, 32, top, 2, 28) for top in (0, 18, 36)]


def test_one_crop_is_central(data_config, clip_config):
    assert TestViews(data_config(), clip_config).windows(64, 128) == [
        Window(32, 64, 2, 18, 28)
    ]


def test_random_windows_cover_side_position_and_flip(data_config, clip_config):
    data = data_config()
    windows = []
    for seed in range(400):
        view = RandomView(data, clip_config, np.random.default_rng(seed))
        windows += view.windows(50, 100)
    assert {w.height for w in windows} == set(range(32, 41))
    assert all(w.width == 2 * w.height for w in windows)
    smallest = [w for w in windows if w.height == 32]
    assert {w.top for w in smallest} == set(range(5))
    assert 0.4 < np.mean([w.flip for w in windows]) < 0.6
    assert all(0 <= w.left <= w.width - 28 for w in windows)
    assert max(w.left / (w.width - 28) for w in windows) > 0.95


def test_flip_can_be_turned_off(data_config, clip_config):
    data = data_config(horizontal_flip=False)
    for seed in range(20):
        view = RandomView(data, clip_config, np.random.default_rng(seed))
        assert not view.windows(50, 100)[0].flip
