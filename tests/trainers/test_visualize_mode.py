"""`--mode visualize`: pictures of every video, and how attention is distributed."""

import json
import os
import re
import types

import numpy as np
import pytest
from PIL import Image

from keras_nonlocal import I3D
from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import (
    AttentionMaps,
    attention_maps,
    non_local_blocks,
    query_independence,
)
from trainers.core.errors import UserError
from trainers.video_classification import visualize
from trainers.video_classification.data import write_video
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.modes import Options

NAMES = ["res2_0_nonlocal", "res3_0_nonlocal"]


@pytest.fixture(scope="module")
def model():
    blocks = {"res2": [0], "res3": [0]}
    model = I3D(14, 2, (4, 32, 32, 3), width=4, non_local=blocks)
    for block in non_local_blocks(model).values():  # not nearly uniform
        for embedding in (block.theta, block.phi):
            embedding.kernel.assign(200 * embedding.kernel)
    return model


@pytest.fixture(scope="module")
def task():
    config = types.SimpleNamespace(
        clip=ClipConfig(num_frames=4, temporal_stride=1),
        validation_data=DataConfig(
            min_short_side=32, max_short_side=32, crop_size=32, num_test_clips=3
        ),
    )
    return types.SimpleNamespace(task_config=config, class_names=("a", "b"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (12, 8, 10, 3), np.uint8)
    write_video(str(path), frames.repeat(5, 1).repeat(5, 2))
    return str(path)


def options_of(*paths, **options):
    return Options("", paths=paths, **options)


def test_every_block_and_query_is_drawn(task, model, video, tmp_path, capsys):
    options = options_of(video, output_dir=str(tmp_path), queries=("1,20,9", "0,0,0"))
    assert visualize.run(task, model, options) == 0
    expected = {"attention.html"} | {
        f"{name}_{query}.{suffix}"
        for name in NAMES
        for query in ("1_20_9", "0_0_0")
        for suffix in ("png", "gif")
    }
    folder = tmp_path / "clip"
    assert set(os.listdir(folder)) == expected
    with Image.open(folder / "res2_0_nonlocal_1_20_9.gif") as heat:
        assert (heat.size, heat.n_frames) == ((256, 256), 4)
    with Image.open(folder / "res2_0_nonlocal_1_20_9.png") as arrows:
        assert arrows.width == 12 * 110
    page = (folder / "attention.html").read_text(encoding="utf-8")
    assert "<title>Attention: clip.mp4</title>" in page
    data = json.loads(re.search(r'application/json">(.*?)</script>', page)[1])
    assert [block["name"] for block in data["blocks"]] == NAMES
    out = capsys.readouterr().out
    assert re.search(r"res3_0_nonlocal  embedded_gaussian  spacetime  0\.\d{3} ", out)
    assert "queries: 1,20,9 0,0,0" in out


def test_values_are_those_of_the_middle_view(task, model, video, tmp_path, capsys):
    options = {"output_dir": str(tmp_path), "as_json": True, "blocks": ("res3_0",)}
    assert visualize.run(task, model, options_of(video, **options)) == 0
    (result,) = json.loads(capsys.readouterr().out)
    config = task.task_config
    views = visualize.read_views(video, config.validation_data, config.clip)
    clips = visualize.normalize(views[1:2], config.clip, "float32")
    maps = attention_maps(model, clips, NAMES[1])
    (block,) = result["blocks"]
    assert (block["block"], block["mode"]) == (NAMES[1], "embedded_gaussian")
    found = [block[k] for k in ("divergence", "cosine_distance", "entropy")]
    np.testing.assert_allclose(found, query_independence(maps), rtol=1e-4)
    assert found[0] > 0.01
    centres = maps.queries.centres.tolist()
    assert result["queries"] and all(query in centres for query in result["queries"])
    assert len(result["files"]) == 1 + 2 * len(result["queries"])
    assert all(os.path.getsize(path) for path in result["files"])


def test_arrows_of_a_long_clip_are_in_eight_of_its_frames():
    grid = Grid((32, 2, 2), (0.0, 3.5, 3.5), (1.0, 8.0, 8.0))
    scores = np.zeros((1, 128, 128), "float32")
    query, key = grid.nearest(9, 0, 0), grid.nearest(27, 12, 12)
    scores[0, query, key] = 1
    maps = AttentionMaps(scores, grid, grid)
    frames = np.arange(32, dtype=np.uint8)[:, None, None, None]
    frames = np.broadcast_to(frames, (32, 16, 16, 3))
    (axes,) = visualize.draw_query(frames, maps, query).axes
    labels = [text for text in axes.texts if text.get_text()]
    shown = [int(label.get_text().removeprefix("frame ")) for label in labels]
    assert [int(image.get_array()[0, 0, 0]) for image in axes.images] == shown
    assert len(shown) == 8 and shown == sorted(shown) and {0, 9, 27} <= set(shown)
    strongest = axes.texts[0]
    assert strongest.xyann == (20 * shown.index(9) + 3.5, 3.5)
    assert tuple(strongest.xy) == (20 * shown.index(27) + 11.5, 11.5)


def test_a_broken_video_does_not_stop_the_others(task, model, video, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    options = {"output_dir": str(tmp_path / "out"), "blocks": ("res3_0",)}
    options["queries"] = ("0,1,2",)
    assert visualize.run(task, model, options_of(str(broken), video, **options)) == 1
    assert f"error: {broken}: " in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["clip"]


def test_pictures_can_be_on_another_file_system(task, model, video):
    import tensorflow as tf

    options = {"output_dir": "ram://pictures", "blocks": ("res3_0",)}
    options["queries"] = ("0,1,2",)
    assert visualize.run(task, model, options_of(video, **options)) == 0
    assert tf.io.gfile.exists("ram://pictures/clip/attention.html")


@pytest.mark.parametrize("query", ["1,2", "a,b,c", "1,2,nan", ""])
def test_wrong_queries_are_named_before_the_network_is_built(query):
    with pytest.raises(UserError, match=r"--query must be t,y,x: .* Received: "):
        visualize.check(options_of("a.mp4", queries=(query,)))


def test_live_input_is_refused():
    with pytest.raises(UserError, match="is live input: visualize needs a file"):
        visualize.check(options_of("rtsp://camera"))


def test_queries_outside_the_clip_are_refused(task, model, video, tmp_path):
    options = options_of(video, output_dir=str(tmp_path), queries=("4,0,0",))
    message = "--query=4,0,0 is outside the clip, which has 4 frames of 32 rows and 32"
    with pytest.raises(UserError, match=message):
        visualize.run(task, model, options)


def test_unknown_blocks_are_refused(task, model, video):
    with pytest.raises(UserError, match="--block=res3_1 is not .*mean 'res3_0'"):
        visualize.run(task, model, options_of(video, blocks=("res3_1",)))


def test_a_network_without_blocks_is_refused(task, video):
    plain = I3D(14, 2, (4, 32, 32, 3), width=4)
    with pytest.raises(UserError, match="has no non-local blocks"):
        visualize.run(task, plain, options_of(video))


def test_a_full_disk_is_named(task, model, video, small_disk):
    options = options_of(video, output_dir=str(small_disk(4096)), blocks=("res3_0",))
    with pytest.raises(UserError, match=r"attention\.html"):
        visualize.run(task, model, options)
