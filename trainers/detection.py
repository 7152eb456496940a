"""Trains, evaluates, exports and runs Mask R-CNN and Keypoint R-CNN.

    python trainers/detection.py --config A.yaml [--config B.yaml] \\
        --mode train|eval|train_and_eval|export|predict|dry_run \\
        --model_dir DIR [--params_override=a.b=c ...]

Later configs override earlier ones, and overrides override all of them. Without a
config, modes that use a trained model read the one saved in its directory:

    python trainers/detection.py --mode predict --model_dir DIR image.jpg --json
"""

import pathlib
import sys

# Run as a file: imports start at the repository root, where `trainers.detection` is
# the package beside this script.
if not __package__:
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import flags, logging  # noqa: E402

from trainers.detection import experiments  # noqa: E402, F401 (registers)
from trainers.detection.options import Options  # noqa: E402

MODES = ("train", "eval", "train_and_eval", "export", "predict", "dry_run")
cli.define_mode_flags(MODES)
flags.adopt_module_key_flags(cli)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "", "Folder for the pictures of predict; empty: none are drawn."
)
_MIN_SCORE = flags.DEFINE_float(
    "min_score",
    0.5,
    "Detections with a lower score are left out by predict.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def main(arguments):
    """Passes the flags to the mode; returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's messages, too
    paths, to_predict = arguments[1:], "images, videos or folders of them"
    cli.check_mode_flags(paths, MODES, ("dry_run",), to_predict)
    options = Options(
        **cli.options(paths),
        output_dir=_OUTPUT_DIR.value,
        min_score=_MIN_SCORE.value,
    )
    cli.check_config(options)
    with cli.importing():
        from trainers.detection import modes

    return modes.run(flags.FLAGS.mode, options)


if __name__ == "__main__":
    cli.start(main)
