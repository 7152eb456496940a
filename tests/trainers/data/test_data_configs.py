import pytest

from trainers.core.errors import UserError
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import load_index, make_dataset, read_views
from trainers.video_classification.data.configs import ClipConfig


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize(
    "values", [(1.0, 2.0), 114.75, "rgb", (1, 2, "3"), (1, 2, float("nan"))]
)
def test_pixel_statistics_are_three_numbers(name, values):
    with pytest.raises(UserError, match=f"`clip.{name}` must be three .*numbers"):
        ClipConfig(**{name: values}).check()


@pytest.mark.parametrize("std", [(1, 0, 1), (1, -1, 1)])
def test_nothing_is_divided_by_zero(std):
    with pytest.raises(UserError, match="`clip.std` must be three positive"):
        ClipConfig(std=std).check()


def test_means_may_be_zero_or_negative():
    ClipConfig(mean=[0, -1, 0.5], std=[1, 2, 3]).check()


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(num_parallel_decodes=-1), "num_parallel_decodes` .* Received: -1"),
        (dict(max_broken_fraction=-0.1), "max_broken_fraction` .* 0 to 1.*-0.1"),
        (dict(max_broken_fraction=1.5), "max_broken_fraction` .* 0 to 1.*1.5"),
        (dict(max_broken_fraction=float("nan")), "max_broken_fraction` .*nan"),
        (dict(crop_size=33), "crop_size <= min_short_side"),
        (dict(min_short_side=41), "min_short_side <= max_short_side"),
        (dict(num_test_crops=2), "must be 1 .* or 3"),
        (dict(num_test_clips=0), "num_test_clips"),
    ],
)
def test_invalid_values_are_named(data_config, clip_config, settings, message):
    data = data_config(**settings)
    index = load_index(data_config())
    with pytest.raises(UserError, match=message):
        make_dataset(index, data, clip_config)
    with pytest.raises(UserError, match=message):
        read_views(index.videos[0].path, data, clip_config)


def test_a_clip_has_frames_a_stride_apart():
    for name in ("num_frames", "temporal_stride"):
        with pytest.raises(UserError, match=f"`{name}` must be at least 1"):
            ClipConfig(**{name: 0}).check()


def test_defaults_are_valid():
    config = VideoClassificationConfig()
    for part in (config.clip, config.train_data, config.validation_data):
        part.check()
