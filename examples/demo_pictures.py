"""Draws the demo's pictures: training curves, and the attention of a block.

    python examples/demo_pictures.py DEMO [NETWORK ...]

DEMO is the output folder of examples/demo.py. `curves.png` compares the networks.
`attention_seedK.png` shows, for each class, a test clip and the 20 strongest
connections (paper, Fig. 3) of one position on the ball or the box: the one with the
most attention to the other object, on the other side of the curtain.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from trainers.core import cli

cli.quiet_start()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from keras_nonlocal import visualize  # noqa: E402
from trainers.core import checkpoints, config  # noqa: E402
from trainers.core.curves import read_curves  # noqa: E402
from trainers.video_classification import experiments  # noqa: E402, F401
from trainers.video_classification.data import normalize, read_views  # noqa: E402
from trainers.video_classification.task import VideoClassificationTask  # noqa: E402

LABELS = {
    "c2d": "C2D",
    "nl_c2d": "C2D + non-local block",
    "i3d": "I3D (3x1x1), no block",
}
COLORS = {"c2d": "tab:blue", "nl_c2d": "tab:orange", "i3d": "tab:green"}


# === Curves ===


def read_curve(folder, name):
    """Steps and values of a scalar from TensorBoard's event files, by step."""
    points = read_curves(folder.parent, folder.name).get(name, [])
    return np.array([(x.step, x.value) for x in points]).reshape(-1, 2).T


def draw_curves(runs: dict[str, list[pathlib.Path]]) -> Figure:
    """Draws training loss and validation accuracy, with a line for every run."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for network, folders in runs.items():
        style = {"color": COLORS[network]}
        for i, folder in enumerate(folders):
            label = None if i else LABELS[network]
            loss.plot(*read_curve(folder / "train", "loss"), alpha=0.8, **style)
            steps, top1 = read_curve(folder / "validation", "top1")
            accuracy.plot(steps, 100 * top1, ".-", label=label, **style)
    loss.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    accuracy.axhline(50, color="grey", linestyle=":", label="chance")
    accuracy.set(xlabel="step", ylabel="validation accuracy, %", ylim=(40, 102))
    accuracy.legend(loc="center right")
    for axes in (loss, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# === Attention ===


def load_trained(model_dir):
    """The task and the model with which `trainers/video.py` would predict."""
    _, experiment = config.load_experiment([str(model_dir / "params.yaml")], [])
    names = (model_dir / "classes.txt").read_text(encoding="utf-8").split()
    task = VideoClassificationTask(experiment.task, class_names=names)
    model = task.build_model()
    checkpoints.restore_model(model, str(model_dir / "best"))
    return task, model


def draw_attention(model_dir, videos) -> Figure:
    """Draws a row of frames and arrows per video."""
    task, model = load_trained(model_dir)
    figure = Figure(figsize=(12, 1.65 * len(videos)), layout="constrained")
    for axes, video in zip(figure.subplots(len(videos)), videos, strict=True):
        clip, score = _draw_row(axes, task, model, video)
        axes.set_title(f"{video.parent.name}: predicted {score}", loc="left", size=10)
    return figure


def _draw_row(axes, task, model, video):
    settings = task.task_config
    clip = read_views(str(video), settings.validation_data, settings.clip)[:1]
    inputs = normalize(clip, settings.clip, tf.float32)
    maps = visualize.attention_maps(model, inputs, "res2_0_nonlocal")
    query = farthest_looking(maps, clip[0])
    keys, weights = visualize.top_connections(maps.scores[0], query)
    centres = maps.queries.centres[query], maps.keys.centres[keys]
    visualize.draw_arrows(clip[0], *centres, weights, axes=axes)
    scores = tf.nn.softmax(model(inputs, training=False))[0].numpy()
    best = int(scores.argmax())
    return clip[0], f"{task.class_names[best]}, {scores[best]:.2f}"


def farthest_looking(maps, frames):
    """The query on one object with the most attention to the other one."""
    grids = maps.queries.centres, maps.keys.centres
    on_object = [is_colorful(frames, centres) for centres in grids]
    is_late = [centres[:, 0] >= len(frames) / 2 for centres in grids]
    across = is_late[0][:, None] != is_late[1]  # (N, M)
    weight = (maps.scores[0] * (across & on_object[1])).sum(axis=1)
    return int(np.where(on_object[0], weight, -1).argmax())


def is_colorful(frames, points):
    """Whether each pixel (t, y, x) is coloured; the background is grey."""
    saturation = np.ptp(frames.astype(int), axis=-1)
    t, y, x = np.rint(points).astype(int).T
    return saturation[t, y, x] > 128


def main(output, *networks):
    output = pathlib.Path(output)
    pictures = output / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    runs = {name: sorted(output.glob(f"seed*/{name}")) for name in networks}
    draw_curves(runs).savefig(pictures / "curves.png", dpi=110)
    if "nl_c2d" not in networks:
        return
    classes = sorted((output / "videos/test").iterdir())
    videos = [sorted(folder.glob("*.mp4"))[0] for folder in classes]
    for model_dir in runs["nl_c2d"]:
        figure = draw_attention(model_dir, videos)
        figure.savefig(pictures / f"attention_{model_dir.parent.name}.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
