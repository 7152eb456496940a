"""Trains, tests, exports and runs video classifiers.

    python trainers/video.py --config A.yaml [--config B.yaml] \\
        --mode train|eval|train_and_eval|export|predict|dry_run|benchmark_input \\
        --model_dir DIR [--params_override=a.b=c ...]

Later configs override earlier ones, and overrides all of them. Modes that use a
trained model read the config from its directory where none is given:

    python trainers/video.py --mode predict --model_dir DIR video.mp4 --top_k 3
"""

import pathlib
import sys

if not __package__:  # run as a file: imports start at the repository root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import app, flags, logging  # noqa: E402

_CONFIG = flags.DEFINE_multi_string(
    "config", [], "YAML file; may be given several times, later over earlier."
)
_EXPERIMENT = flags.DEFINE_string(
    "experiment", None, "Factory to start from, if no config names one."
)
_OVERRIDE = flags.DEFINE_multi_string(
    "params_override", [], "a.b=c, over all configs; may be given several times."
)
_MODE = flags.DEFINE_string(
    "mode",
    None,
    "train, eval, train_and_eval, export, predict, dry_run or benchmark_input.",
)
_MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Where checkpoints, curves and results are."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "best, last, or a path; best where there is one by default."
)
_EXPORT_DIR = flags.DEFINE_string("export_dir", "", "Default: MODEL_DIR/export.")
_TOP_K = flags.DEFINE_integer("top_k", 5, "Classes that predict names.")
_NO_DIR = ("dry_run", "benchmark_input")  # these leave nothing behind
_JSON = flags.DEFINE_bool("json", False, "predict prints JSON.")


def main(arguments):
    """Hands the flags to the mode; returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # of TensorFlow's notes as well
    from trainers.core.errors import UserError
    from trainers.video_classification import modes

    for flag in (_MODE, _MODEL_DIR):
        if not flag.value and not (flag is _MODEL_DIR and _MODE.value in _NO_DIR):
            raise UserError(f"--{flag.name} is required; see --help.")
    if len(arguments) > 1 and _MODE.value != "predict":
        raise UserError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    options = modes.Options(
        model_dir=pathlib.Path(_MODEL_DIR.value or "."),
        config_files=tuple(_CONFIG.value),
        overrides=tuple(_OVERRIDE.value),
        experiment=_EXPERIMENT.value,
        checkpoint=_CHECKPOINT.value,
        export_dir=_EXPORT_DIR.value,
        paths=tuple(arguments[1:]),
        top_k=_TOP_K.value,
        as_json=_JSON.value,
    )
    return modes.run(_MODE.value, options)


if __name__ == "__main__":
    cli.leave_on_error(lambda: app.run(lambda argv: cli.run(lambda: main(argv))))
