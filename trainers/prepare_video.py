"""Turns videos into sharded TFRecords of JPEG frames, which train faster.

    python trainers/prepare_video.py --input_path=videos/ --output_dir=records/

Any index that training reads will do. Finished shards are kept, so an
interrupted run is continued by the same command. Videos that had to be left out
are printed, and listed with the reason in `report.json`.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters is raised
if not __package__:
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from absl import app, flags

from trainers.video_classification.data import DataError, load_index
from trainers.video_classification.data.prepare import prepare

_INPUT = flags.DEFINE_string(
    "input_path", None, "Folder of class folders, or index file.", required=True
)
_OUTPUT = flags.DEFINE_string("output_dir", None, "Where to write.", required=True)
_FORMAT = flags.DEFINE_string("index_format", "auto", "See DataConfig.index_format.")
_ROOT = flags.DEFINE_string("video_root", "", "Where relative paths start from.")
_CLASSES = flags.DEFINE_string("class_file", "", "Class names, one per line.")
_SPLIT = flags.DEFINE_string("split", "", "Rows of a CSV index to take.")
_MULTILABEL = flags.DEFINE_bool("is_multilabel", False, "Several labels per video.")
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 256, "Larger frames are scaled down to it.", lower_bound=1
)
_QUALITY = flags.DEFINE_integer(
    "quality", 85, "Of the JPEG frames.", lower_bound=1, upper_bound=100
)
_SHARDS = flags.DEFINE_integer(
    "num_shards", 0, "0: one for every 64 videos.", lower_bound=0
)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes; 0: one per core.", lower_bound=0
)
_MAX_NAMED = 20


def main(_) -> None:
    # Here, because the worker processes import this file and need no Model Garden.
    from trainers.video_classification.configs import DataConfig

    data = DataConfig(
        input_path=_INPUT.value,
        index_format=_FORMAT.value,
        video_root=_ROOT.value,
        class_file=_CLASSES.value,
        split=_SPLIT.value,
        is_multilabel=_MULTILABEL.value,
    )
    try:
        report = prepare(
            load_index(data),
            _OUTPUT.value,
            short_side=_SHORT_SIDE.value,
            quality=_QUALITY.value,
            num_shards=_SHARDS.value,
            workers=_WORKERS.value,
        )
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    _print("left out", report.left_out)
    _print("damaged", report.damaged)
    print(f"{report.num_written} videos written to {_OUTPUT.value}")
    if not report.num_written:
        sys.exit("error: not one of the videos could be decoded; nothing to train on.")


def _print(what: str, videos: dict[str, str]) -> None:
    for path, reason in sorted(videos.items())[:_MAX_NAMED]:
        print(f"{what}: {path}: {reason}")
    if len(videos) > _MAX_NAMED:
        print(f"{what}: {len(videos) - _MAX_NAMED} more, see report.json")


if __name__ == "__main__":
    app.run(main)
