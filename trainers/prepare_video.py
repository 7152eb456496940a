"""Writes videos as sharded TFRecords of JPEG frames, from which training is faster.

    python trainers/prepare_video.py --input_path=videos/ --output_dir=records/

`--input_path` may be any index that training reads. The data set can also be that of a
training config: its `train_data`, or the one that `--data` names. Settings without a
flag of their own are overridden as in trainers/video.py:

    python trainers/prepare_video.py --config A.yaml --data=validation_data \\
        --output_dir=records/val [--params_override=a.b=c ...]

With `--beam` an Apache Beam pipeline writes the same shards, on many machines if its
runner has them.

Finished shards are kept: to continue an interrupted run, repeat the command. Videos
that are left out are printed, and listed with the reason in `report.json`.
"""

import pathlib
import sys

if not __package__:  # run as a file: imports start at the repository root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import flags  # noqa: E402

from trainers.core import files  # noqa: E402
from trainers.core.errors import UserError  # noqa: E402
from trainers.core.experiments import read_layers  # noqa: E402
from trainers.video_classification import experiments  # noqa: E402

cli.define_config_flags()
flags.adopt_module_key_flags(cli)
_DATA = flags.DEFINE_enum(
    "data", "train_data", ["train_data", "validation_data"], "Data set of the config."
)
_INPUT = flags.DEFINE_string(
    "input_path", None, "Folder of class folders, or index file; over the config's."
)
_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder of the shards.")
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 256, "Larger frames are scaled down to it.", lower_bound=1
)
_QUALITY = flags.DEFINE_integer(
    "quality", 85, "Quality of the JPEG frames.", lower_bound=1, upper_bound=100
)
_SHARDS = flags.DEFINE_integer(
    "num_shards", 0, "0: one for every 64 videos.", lower_bound=0
)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes; 0: one per core.", lower_bound=0
)
_BEAM = flags.DEFINE_bool(
    "beam", False, "Write by an Apache Beam pipeline, on this machine or many."
)
_BEAM_OPTIONS = flags.DEFINE_list(
    "beam_pipeline_options", [], "Of --beam, such as runner=DataflowRunner,region=..."
)
_MAX_NAMED = 20


def main(arguments) -> None:
    """Writes the shards that the flags describe; prints what was left out."""
    if len(arguments) > 1:
        raise UserError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    if not _OUTPUT.value:
        raise UserError("--output_dir is required; see --help.")
    if _BEAM_OPTIONS.value and not _BEAM.value:
        raise UserError("--beam_pipeline_options has no effect without --beam.")
    read_layers(*_config_flags())  # finds mistakes
    # Imported here, because they take seconds and the worker processes import this
    # file too.
    from trainers.video_classification.data import load_index
    from trainers.video_classification.data.tfrecords.shards import write_shards

    data = _data_config()
    data.limits.check()
    summary = write_shards(
        load_index(data),
        _OUTPUT.value,
        short_side=_SHORT_SIDE.value,
        quality=_QUALITY.value,
        num_shards=_SHARDS.value,
        workers=_WORKERS.value,
        limits=data.limits,
        frame_rate=data.frame_rate,
        beam_options=_BEAM_OPTIONS.value if _BEAM.value else None,
    )
    _print("left out", summary.left_out)
    _print("damaged", summary.damaged)
    print(f"{summary.num_written} videos written to {_OUTPUT.value}")
    if not summary.num_written:
        raise UserError("None of the videos could be decoded: nothing to train on.")


def _config_flags():
    """The config files, overrides and name of the experiment."""
    name, config_files = flags.FLAGS.experiment, flags.FLAGS.config
    if not name and not config_files:
        name = experiments.DEFAULT
    return config_files, flags.FLAGS.params_override, name


def _data_config():
    """The data set of the config, with `--input_path` if it is given."""
    from trainers.core import config

    _, experiment = config.load_experiment(*_config_flags())
    data = getattr(experiment.task, _DATA.value)
    data.input_path = _INPUT.value or data.input_path
    if not data.input_path:
        raise UserError(
            f"No videos: give --input_path, or a --config with task.{_DATA.value}."
            "input_path."
        )
    return data


def _print(title: str, videos: dict[str, str]) -> None:
    for path, reason in sorted(videos.items())[:_MAX_NAMED]:
        print(f"{title}: {files.printable(path)}: {files.printable(reason)}")
    if len(videos) > _MAX_NAMED:
        print(f"{title}: {len(videos) - _MAX_NAMED} more, see report.json")


if __name__ == "__main__":
    cli.start(main)
