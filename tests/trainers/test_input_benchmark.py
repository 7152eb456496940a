import pytest

from trainers.video_classification import input_benchmark
from trainers.video_classification.data import load_index, write_video
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.input_benchmark import Stage

CLIP = ClipConfig(num_frames=4, temporal_stride=2)


def data_config(folder, **overrides):
    settings = dict(
        input_path=str(folder),
        is_training=True,
        global_batch_size=2,
        min_short_side=32,
        max_short_side=40,
        crop_size=28,
        num_parallel_decodes=1,
    )
    return DataConfig(**(settings | overrides))


@pytest.fixture
def videos(tmp_path):
    import numpy as np

    (tmp_path / "one").mkdir()
    for i in range(2):
        frames = np.random.default_rng(i).integers(0, 255, (12, 48, 64, 3), "uint8")
        write_video(str(tmp_path / "one" / f"{i}.mp4"), frames)
    return tmp_path


def test_every_stage_is_measured(videos):
    data = data_config(videos)
    stages = input_benchmark.measure(load_index(data), data, CLIP, 0, seconds=0.2)
    names = ["read, decode", "+ augment", "+ batch, prefetch"]
    assert [stage.name for stage in stages] == names
    assert all(s.clips_per_second > 0 and s.cores > 0 for s in stages)


def test_broken_videos_end_it_by_name(videos):
    data = data_config(videos)
    index = load_index(data)
    for video in index.videos:
        with open(video.path, "w") as file:
            file.write("no video")
    with pytest.raises(ValueError, match="could be decoded|could not be decoded"):
        input_benchmark.measure(index, data, CLIP, 0, seconds=0.1)


@pytest.mark.parametrize(
    "speeds, cores, threads, limit",
    [
        ((50, 48, 47), 2, 0, "decoding, on every core"),
        ((50, 48, 47), 0.4, 0, "waiting for storage"),
        ((50, 48, 47), 1, 1, "num_parallel_decodes is 1 of 2"),
        ((50, 30, 29), 2, 0, "scaling and cropping"),
        ((50, 48, 20), 2, 0, "batching"),
    ],
)
def test_the_limit_is_named(monkeypatch, speeds, cores, threads, limit):
    monkeypatch.setattr(input_benchmark.os, "sched_getaffinity", lambda _: {0, 1})
    data = data_config("x", global_batch_size=8, num_parallel_decodes=threads)
    stages = [Stage(str(speed), speed, cores) for speed in speeds]
    lines = input_benchmark.report(stages, data, CLIP)
    assert lines[-1].startswith("Limit: ") and limit in lines[-1]
    assert f"{8000 / speeds[-1]:.0f} ms" in lines[-2]
    assert lines[1].split() == ["50", "50.0", "200", f"{cores:.1f}/2"]
