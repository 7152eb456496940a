"""Trains, evaluates, exports and runs video classifiers.

    python trainers/video.py --config A.yaml [--config B.yaml] \\
        --mode train|eval|train_and_eval|export|predict|visualize|report|\\
        check_data|dry_run|benchmark_input --model_dir DIR [--params_override=a.b=c ...]

Later configs override earlier ones, and overrides override all of them. Without a
config, modes that use a trained model read the one saved in its directory:

    python trainers/video.py --mode predict --model_dir DIR video.mp4 --top_k 3
    python trainers/video.py --mode predict --export_dir DIR --window 10 long.mp4
    python trainers/video.py --mode visualize --model_dir DIR video.mp4 --block res3_3
"""

import pathlib
import sys

if not __package__:  # run as a file: imports start at the repository root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import flags, logging  # noqa: E402

from trainers.video_classification import experiments  # noqa: E402, F401 (registers)
from trainers.video_classification.options import Options  # noqa: E402

MODES = (
    "train",
    "eval",
    "train_and_eval",
    "export",
    "predict",
    "visualize",
    "report",
    "check_data",
    "dry_run",
    "benchmark_input",
)
cli.define_mode_flags(MODES)
flags.adopt_module_key_flags(cli)
_TOP_K = flags.DEFINE_integer(
    "top_k", 5, "Number of classes that predict prints.", lower_bound=1
)
_WINDOW = flags.DEFINE_float(
    "window", None, "predict scores each window of this many seconds."
)
_STEP = flags.DEFINE_float(
    "step", None, "Seconds between the starts of two windows. Default: --window."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    "",
    "Folder for the files of predict, which goes on where it ended, and of visualize.",
)
_OUTPUTS = flags.DEFINE_list(
    "outputs", ["jsonl"], "Files that predict writes there: jsonl, srt, vtt, mp4."
)
_FEATURES = flags.DEFINE_string(
    "features", "", "predict also writes features, to files of: npz, parquet."
)
_QUEUE = flags.DEFINE_integer(
    "queue",
    4,
    "Windows of live input that may wait; then the oldest is dropped. 0: none is, and "
    "the input waits.",
)
_BLOCK = flags.DEFINE_multi_string(
    "block", [], "visualize draws this block, such as res3_3. Default: all."
)
_QUERY = flags.DEFINE_multi_string(
    "query", [], "t,y,x that visualize draws the attention of. Default: it chooses."
)
_FORMAT = flags.DEFINE_string(
    "format",
    "saved_model",
    "What export writes: saved_model, openvino, onnx or litert.",
)
_PRECISION = flags.DEFINE_string(
    "precision",
    None,
    "Of export: float32, bfloat16 or int8, which saved_model (the first two), openvino "
    "(all), onnx and litert (the first) have. By default as trained, or float32.",
)
_WITHOUT_MODEL_DIR = ("dry_run", "check_data", "benchmark_input")


def main(arguments):
    """Passes the flags to the mode; returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's messages, too
    mode, paths = flags.FLAGS.mode, arguments[1:]
    exported = ("predict",) if flags.FLAGS.export_dir else ()
    without_model_dir = _WITHOUT_MODEL_DIR + exported
    to_predict = "video files or folders of them"
    cli.check_mode_flags(paths, MODES, without_model_dir, to_predict)
    options = Options(
        **cli.options(paths),
        top_k=_TOP_K.value,
        window=_WINDOW.value,
        step=_STEP.value,
        output_dir=_OUTPUT_DIR.value,
        outputs=tuple(_OUTPUTS.value),
        features=_FEATURES.value,
        queue=_QUEUE.value,
        blocks=tuple(_BLOCK.value),
        queries=tuple(_QUERY.value),
        format=_FORMAT.value,
        precision=_PRECISION.value,
    )
    options.check(mode)
    # The imports take seconds; an exported network needs less than what trains one.
    if mode in exported:
        cli.start_without_keras()
        with cli.importing():
            from trainers.video_classification import predict

        return predict.run_exported(options)
    cli.check_config(options)
    with cli.importing():
        from trainers.video_classification import modes

    return modes.run(mode, options)


if __name__ == "__main__":
    cli.start(main)
