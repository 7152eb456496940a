import dataclasses

import pytest
from official.core import config_definitions as cfg

from trainers.video_classification.configs import (
    ClipConfig,
    VideoClassificationConfig,
)
from trainers.video_classification.data import (
    DataError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.settings import check_settings


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize(
    "values", [(1.0, 2.0), 114.75, "rgb", (1, 2, "3"), (1, 2, float("nan"))]
)
def test_pixel_statistics_are_three_numbers(data_config, name, values):
    with pytest.raises(DataError, match=f"`clip.{name}` must be three .*numbers"):
        check_settings(data_config(), ClipConfig(**{name: values}))


@pytest.mark.parametrize("std", [(1, 0, 1), (1, -1, 1)])
def test_nothing_is_divided_by_zero(data_config, std):
    with pytest.raises(DataError, match="`clip.std` must be three positive"):
        check_settings(data_config(), ClipConfig(std=std))


def test_means_may_be_zero_or_negative(data_config):
    check_settings(data_config(), ClipConfig(mean=[0, -1, 0.5], std=[1, 2, 3]))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(num_parallel_decodes=-1), "num_parallel_decodes` .* Received: -1"),
        (dict(max_broken_fraction=-0.1), "max_broken_fraction` .* 0 to 1.*-0.1"),
        (dict(max_broken_fraction=1.5), "max_broken_fraction` .* 0 to 1.*1.5"),
        (dict(max_broken_fraction=float("nan")), "max_broken_fraction` .*nan"),
        (dict(tfds_name="ucf101"), "`tfds_name` has no effect here: leave it at ''"),
        (dict(shuffle_buffer_size=9), "`shuffle_buffer_size` .* 100. Received: 9"),
        (dict(cycle_length=4), "`cycle_length` has no effect here"),
        (dict(sharding=False), "`sharding` has no effect here"),
        (dict(cache=True), "`cache` has no effect here in training"),
        (dict(drop_remainder=False), "`drop_remainder` .* in training"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(
    data_config, clip_config, settings, message
):
    data = data_config(**settings)
    index = load_index(data_config())
    with pytest.raises(DataError, match=message):
        make_dataset(index, data, clip_config)
    with pytest.raises(DataError, match=message):
        read_views(index.records[0].path, data, clip_config)


def test_every_field_of_the_model_garden_applies_or_is_refused(data_config):
    applies = set(
        "input_path global_batch_size is_training deterministic seed "
        "prefetch_buffer_size".split()
    )
    refused = set()
    for field in dataclasses.fields(cfg.DataConfig):
        data = data_config()
        setattr(data, field.name, "another value")
        data.is_training = True
        try:
            check_settings(data, ClipConfig())
        except DataError:
            refused.add(field.name)
    assert refused == {f.name for f in dataclasses.fields(cfg.DataConfig)} - applies


def test_test_data_may_be_cached_and_defaults_pass(data_config, clip_config):
    check_settings(data_config(is_training=False, cache=True), clip_config)
    config = VideoClassificationConfig()
    check_settings(config.train_data, config.clip)
    check_settings(config.validation_data, config.clip)
