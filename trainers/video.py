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
cli.define_mode_flags(MODES)
flags.adopt_module_key_flags(cli)
_TOP_K = flags.DEFINE_integer(
    "top_k", 5, "Number of classes that predict prints.", lower_bound=1
)
_WITHOUT_MODEL_DIR = ("dry_run", "check_data", "benchmark_input")


def main(arguments):
    """Passes the flags to the mode; returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's messages, too
    paths, to_predict = arguments[1:], "video files or folders of them"
    cli.check_mode_flags(paths, MODES, _WITHOUT_MODEL_DIR, to_predict)
    from trainers.video_classification import modes  # takes seconds

    options = modes.Options(**cli.options(paths), top_k=_TOP_K.value)
    return modes.run(flags.FLAGS.mode, options)


if __name__ == "__main__":
    cli.start(main)
