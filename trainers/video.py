"""Trains, evaluates, exports and runs video classifiers.

    python trainers/video.py --config A.yaml [--config B.yaml] \\
        --mode train|eval|train_and_eval|export|predict|check_data|dry_run|\\
        benchmark_input --model_dir DIR [--params_override=a.b=c ...]

Later configs override earlier ones, and overrides override all of them. Without a
config, modes that use a trained model read the one saved in its directory:

    python trainers/video.py --mode predict --model_dir DIR video.mp4 --top_k 3
"""

import pathlib
import sys

if not __package__:  # run as a file: imports start at the repository root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import flags, logging  # noqa: E402

from trainers.core.errors import UserError, check_key  # noqa: E402

cli.define_config_flags()
flags.adopt_module_key_flags(cli)
MODES = (
    "train",
    "eval",
    "train_and_eval",
    "export",
    "predict",
    "check_data",
    "dry_run",
    "benchmark_input",
)
_MODE = flags.DEFINE_string("mode", None, f"One of: {', '.join(MODES)}.")
_MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Folder of checkpoints, curves and results."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "best, last, or a path. Default: best if it exists, else last."
)
_EXPORT_DIR = flags.DEFINE_string("export_dir", "", "Default: MODEL_DIR/export.")
_TOP_K = flags.DEFINE_integer(
    "top_k", 5, "Number of classes that predict prints.", lower_bound=1
)
_PRINT_CONFIG = flags.DEFINE_bool(
    "print_config", False, "dry_run also prints the whole config, as YAML."
)
_JSON = flags.DEFINE_bool("json", False, "predict and check_data print JSON.")
_WITHOUT_MODEL_DIR = ("dry_run", "check_data", "benchmark_input")


def main(arguments):
    """Passes the flags to the mode; returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's messages, too
    _check_flags(arguments[1:])
    from trainers.video_classification import modes  # takes seconds

    options = modes.Options(
        model_dir=_MODEL_DIR.value or "",
        config_files=tuple(flags.FLAGS.config),
        overrides=tuple(flags.FLAGS.params_override),
        experiment=flags.FLAGS.experiment,
        checkpoint=_CHECKPOINT.value,
        export_dir=_EXPORT_DIR.value,
        paths=tuple(arguments[1:]),
        top_k=_TOP_K.value,
        as_json=_JSON.value,
        print_config=_PRINT_CONFIG.value,
    )
    return modes.run(_MODE.value, options)


def _check_flags(paths):
    """Raises `UserError` for mistakes that need no config and no network to be seen."""
    if not _MODE.value:
        raise UserError("--mode is required; see --help.")
    check_key("--mode", _MODE.value, MODES)
    if not _MODEL_DIR.value and _MODE.value not in _WITHOUT_MODEL_DIR:
        raise UserError("--model_dir is required; see --help.")
    if paths and _MODE.value != "predict":
        raise UserError(f"Unexpected arguments: {' '.join(paths)}")
    if not paths and _MODE.value == "predict":
        raise UserError("Nothing to predict: give video files or folders of them.")
    cli.check_config_flags()


if __name__ == "__main__":
    cli.start(main)
