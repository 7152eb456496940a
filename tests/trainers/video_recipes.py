"""Reduced recipes of video classifiers: their data, weights and sizes."""

import pathlib

import numpy as np

from tests.trainers import recipes
from tests.trainers.recipes import CONFIGS, load, num_replicas, of_script

ALL = of_script("video.py")
WIDTH, SIDE, VIDEO_FRAMES = 4, 64, 24
NUM_VIDEOS = {"train": 4, "val": 1}  # of each class


def reductions(path):
    """Overrides: two steps, narrow layers, small frames and fewer of them."""
    experiment = load(path)
    frames = max(8, experiment.task.clip.num_frames // 2)
    batches = min(2, experiment.trainer.precise_batch_norm.num_batches)
    sides = {"min_short_side": SIDE, "max_short_side": SIDE + 8, "crop_size": SIDE}
    return (
        "trainer.train_steps=2",
        "task.report_videos=0",
        f"trainer.precise_batch_norm.num_batches={batches}",
        f"runtime.num_cpu_devices={num_replicas(path)}",
        f"task.model.width={WIDTH}",
        f"task.clip.num_frames={frames}",
        "task.validation_data.views_in_training=all",
        *(
            f"task.{data}.{name}={value}"
            for data in ("train_data", "validation_data")
            for name, value in sides.items()
        ),
    )


def run(path, folder, *overrides):
    """As `recipes.run`, with `reductions`; `write_data` has written to the folder."""
    _write_weights(folder, load(path).task)
    return recipes.run(path, folder, (*reductions(path), *overrides))


# === Data under the paths of the recipes ===


def write_data(folder):
    """Videos of noise, and the indexes of every data set."""
    from trainers.video_classification.data import write_video

    random = np.random.default_rng(0)

    def video(*parts):
        path = pathlib.Path(folder, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (VIDEO_FRAMES, SIDE, SIDE + 16, 3)
        write_video(str(path), random.integers(0, 256, shape, np.uint8))

    for split, count in NUM_VIDEOS.items():
        names = [(label, f"{split}{i}") for label in "ab" for i in range(count)]
        for label, name in names:
            video("data/kinetics400", label, f"{name}.mp4")
            video("data/charades/Charades_v1_480", f"{label}{name}.mp4")
            video("data/ucf101/videos", label, f"{name}.mp4")
            for root in ("CLIPS", "demo/videos"):
                video(root, split, label, f"{name}.mp4")
        _write_indexes(pathlib.Path(folder, "data"), split, names)


def _write_indexes(data, split, names):
    kinetics = {"train": "train.csv", "val": "validate.csv"}[split]
    rows = [f"{label},{name},0,10,{split}" for label, name in names]
    _write(
        data / "kinetics400" / kinetics,
        "label,youtube_id,time_start,time_end,split",
        *rows,
    )
    charades = {"train": "train", "val": "test"}[split]
    rows = [
        f"{label}{name},c00{ord(label) - 97} 0.00 1.00;c156 0.00 0.50"
        for label, name in names
    ]
    _write(data / f"charades/Charades_v1_{charades}.csv", "id,actions", *rows)
    ucf101 = {"train": "trainlist01.txt", "val": "testlist01.txt"}[split]
    _write(data / "ucf101" / ucf101, *(f"{x}/{y}.mp4" for x, y in names))
    _write(data / "ucf101/classInd.txt", "1 a", "2 b")


def _write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))


# === Weights under the paths of the recipes ===


def _write_weights(folder, task):
    """Writes what `init_checkpoint` names: an ImageNet ResNet, or an earlier stage."""
    path = folder / task.init_checkpoint
    if not task.init_checkpoint or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pth":
        from tests.convert import spelling
        from tests.convert.files_of_weights import write
        from tests.convert.networks import draw_state

        image = _build(task.model, name="c2d", non_local=None)
        write(draw_state(image, spelling.torchvision, image=True), path)
        return
    earlier = CONFIGS / f"{path.relative_to(folder / 'runs')}.yaml"
    model = load(earlier).task.model if earlier.exists() else task.model
    blocks = {} if earlier.exists() else {"non_local": None}
    weights = path.with_name("earlier.weights.h5")
    _build(model, **blocks).save_weights(weights)
    weights.rename(path)


def _build(model, **changes):
    from keras_nonlocal.models import build

    changes = {"num_classes": 2, "width": WIDTH} | changes
    options = model.as_dict() | changes
    return build(options.pop("name"), input_shape=(None, None, None, 3), **options)
