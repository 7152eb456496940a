import pytest

from trainers.core.config import load_experiment
from trainers.core.errors import UserError
from trainers.video_classification import experiments  # noqa: F401 (registers)
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import load_index, make_dataset, read_views
from trainers.video_classification.data.configs import ClipConfig


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize(
    "values", [(1.0, 2.0), 114.75, "rgb", (1, 2, "3"), (1, 2, float("nan"))]
)
def test_pixel_statistics_are_three_numbers(name, values):
    with pytest.raises(UserError, match=f"`{name}` must be three .*numbers"):
        ClipConfig(**{name: values}).check()


@pytest.mark.parametrize("std", [(1, 0, 1), (1, -1, 1)])
def test_nothing_is_divided_by_zero(std):
    with pytest.raises(UserError, match="`std` must be three positive"):
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
        (dict(sampling_exponent=-0.1), "sampling_exponent` must be from 0 .*-0.1"),
        (dict(sampling_exponent=2.0), "sampling_exponent` must be from 0 .*2.0"),
        (dict(sampling_exponent=0.5, is_training=False), "is for training data"),
        (dict(crop_size=33), "crop_size <= min_short_side"),
        (dict(min_short_side=41), "min_short_side <= max_short_side"),
        (dict(num_test_crops=2), "must be 1 .* or 3"),
        (dict(num_test_clips=0), "num_test_clips"),
        (dict(test_protocol="pysloWfast"), "Did you mean 'pyslowfast'"),
        (dict(views_in_training="two"), "views_in_training is 'two'"),
        (dict(test_protocol="one_view", num_test_clips=2), "one clip and one crop"),
        (dict(test_protocol="paper", num_test_crops=3), "num_test_crops must be 1"),
        (dict(test_protocol="mmaction2", num_test_crops=3), "short side.* 28 and 32"),
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


def load(*overrides):
    overrides = [f"task.validation_data.{override}" for override in overrides]
    return load_experiment([], overrides, "kinetics400")[1].task.validation_data


def views(data):
    sides = data.min_short_side, data.crop_size
    return (data.test_protocol, data.num_test_clips, data.num_test_crops, *sides)


@pytest.mark.parametrize("name", ["video_nonlocal_net", "pyslowfast", "mmaction2"])
def test_a_protocol_sets_the_fields_that_it_determines(name):
    assert views(load(f"test_protocol={name}")) == (name, 10, 3, 256, 256)
    assert views(load("test_protocol=paper")) == ("paper", 10, 1, 256, 256)
    assert views(load("test_protocol=one_view")) == ("one_view", 1, 1, 256, 256)


def test_fields_named_beside_a_protocol_or_later_are_kept(tmp_path):
    yaml = tmp_path / "a.yaml"
    yaml.write_text(
        "experiment: kinetics400\n"
        "task: {validation_data: {crop_size: 224, num_test_crops: 1, "
        "test_protocol: mmaction2}}\n"
    )
    data = load_experiment([str(yaml)])[1].task.validation_data
    assert views(data) == ("mmaction2", 10, 1, 256, 224)
    later = load("test_protocol=mmaction2", "num_test_clips=4")
    assert views(later) == ("mmaction2", 4, 3, 256, 256)
    earlier = load("num_test_clips=4", "test_protocol=mmaction2")
    assert views(earlier) == ("mmaction2", 10, 3, 256, 256)


def test_evaluations_during_training_score_one_view_unless_all_are_asked_for():
    data = load("test_protocol=mmaction2")
    assert views(data.in_training()) == ("one_view", 1, 1, 256, 256)
    assert views(data) == ("mmaction2", 10, 3, 256, 256)
    data.views_in_training = "all"
    assert views(data.in_training()) == views(data)


def test_whole_frames_are_as_large_as_the_training_crop():
    config = VideoClassificationConfig()
    config.train_data.crop_size = config.train_data.min_short_side = 288
    config.validation_data.set_test_protocol("paper")
    with pytest.raises(UserError, match="at least 288. Received: 256"):
        config.check()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["validation_data.test_protocol=pysloWfast"],
            r"--params_override=.*=pysloWfast: task\.validation_data: test_protocol is",
        ),
        (
            ["validation_data.test_protocol=mmaction2", "clip.fps=5"],
            "^task.validation_data: test_protocol `mmaction2` counts frames",
        ),
        (["clip.std=[0,1,1]"], "^task.clip: `std` must be three positive"),
    ],
)
def test_errors_name_the_part_of_the_config(overrides, message):
    with pytest.raises(UserError, match=message):
        overrides = [f"task.{override}" for override in overrides]
        load_experiment([], overrides, "kinetics400")[1].task.check()
