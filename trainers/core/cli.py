"""Runs a command so that a user's mistake is printed as one line, not a traceback."""

import contextlib
import errno
import gc
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags

from trainers.core import experiments, files
from trainers.core.errors import Interrupted, UserError, check_key

_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")  # the latter is TensorFlow's
_SAVE_MEMORY = (
    "Use smaller batches or clips; in training also a larger "
    "trainer.gradient_accumulation_steps, or trainer.recompute_activations=true."
)


def quiet_start():
    """Silences TensorFlow's start-up messages. Call it before importing TensorFlow.

    TF_CPP_MIN_LOG_LEVEL and GRPC_VERBOSITY are kept if they are set.

    Raises:
        SystemExit: Keras is set to another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        fail(
            f"KERAS_BACKEND is {backend!r}, but the trainers run on TensorFlow. Unset "
            "it, or set KERAS_BACKEND=tensorflow."
        )


def start_without_keras():
    """Keeps TensorFlow from importing Keras 3. Call it before importing TensorFlow.

    TensorFlow imports the Keras that is installed: Keras 3, which takes a second with
    pandas, matplotlib and scikit-learn, or, by this setting, the small tf_keras.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


@contextlib.contextmanager
def importing():
    """Context without garbage collection, for imports that take seconds.

    Almost all objects that they make stay. To look for garbage among them takes a fifth
    of the time, and later as long at every full collection: they are exempt from it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def define_config_flags():
    """Defines --config, --experiment and --params_override, which build a config.

    `flags.adopt_module_key_flags(cli)` adds them to the --help of a script.
    """
    flags.DEFINE_multi_string(
        "config", [], "YAML file; may be given several times, later over earlier."
    )
    flags.DEFINE_string(
        "experiment", None, "Factory to start from; over the one that a config names."
    )
    flags.DEFINE_multi_string(
        "params_override", [], "a.b=c, over all configs; may be given several times."
    )


def define_mode_flags(modes: Sequence[str]):
    """Defines the flags that the scripts of all trainers have, --config etc. too."""
    define_config_flags()
    flags.DEFINE_string("mode", None, f"One of: {', '.join(modes)}.")
    flags.DEFINE_string("model_dir", None, "Folder of checkpoints, curves and results.")
    flags.DEFINE_string(
        "checkpoint",
        "",
        "best, last, or a path. Default: best if it exists, else last.",
    )
    flags.DEFINE_string("export_dir", "", "Default: MODEL_DIR/export.")
    flags.DEFINE_bool(
        "print_config", False, "dry_run also prints the whole config, as YAML."
    )
    flags.DEFINE_bool("json", False, "predict, visualize and check_data print JSON.")


def options(paths: Sequence[str]) -> dict:
    """The values of these flags, and the other arguments: fields of `Options`."""
    values = flags.FLAGS
    return {
        "model_dir": values.model_dir or "",
        "config_files": tuple(values.config),
        "overrides": tuple(values.params_override),
        "experiment": values.experiment,
        "checkpoint": values.checkpoint,
        "export_dir": values.export_dir,
        "paths": tuple(paths),
        "as_json": values.json,
        "print_config": values.print_config,
    }


def check_mode_flags(
    paths: Sequence[str], modes: Sequence[str], without_model_dir, to_predict: str
):
    """Raises `UserError` for mistakes that need no config to be seen.

    Args:
        paths: Arguments that are no flags.
        modes: Valid values of --mode.
        without_model_dir: The modes that need no --model_dir.
        to_predict: What `predict` and `visualize` take, in words.
    """
    mode = flags.FLAGS.mode
    if not mode:
        raise UserError("--mode is required; see --help.")
    check_key("--mode", mode, modes)
    if not flags.FLAGS.model_dir and mode not in without_model_dir:
        raise UserError("--model_dir is required; see --help.")
    takes_files = mode in ("predict", "visualize")
    if paths and not takes_files:
        raise UserError(f"Unexpected arguments: {' '.join(paths)}")
    if not paths and takes_files:
        raise UserError(f"Nothing to {mode}: give {to_predict}.")


def check_config(options):
    """Raises `UserError` for a wrong config file, override or name of an experiment.

    The imports that build a config take seconds; these mistakes are found before. The
    module of the factories must have been imported.

    Args:
        options: `Options`.
    """
    paths = experiments.find_config(options)
    experiments.read_layers(paths, options.overrides, options.experiment)


def start(main: Callable[[list[str]], int | None]):
    """Parses the flags, runs `main` with the other arguments, and exits with its code.

    Args:
        main: Gets the name of the program and the arguments that are no flags.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: any name can appear
    leave_on_error(
        lambda: app.run(lambda argv: run(lambda: main(argv)), flags_parser=_parse)
    )


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        return fail(f"{error} (see --help)")


def fail(message) -> None:
    """Prints `error: message` and exits with 1."""
    _print_error(message)
    sys.exit(1)


def run(command: Callable[[], int | None]):
    """Runs a command and exits with its code.

    A `UserError`, or memory that ran out, is printed as `error: ...`, with exit code 1.
    Any other exception is a fault of the trainers: its traceback is printed, with the
    command to report.
    After a signal the exit code is 128 + its number.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # Here, so that the error is kept, and with it the iterators of tf.data in its
        # frames: see `leave_on_error`.
        sys.exit(_report(error))
    # tf.data's threads call Python: an iterator that still exists when the
    # interpreter shuts down would block it forever.
    gc.collect()
    sys.exit(code)


def _report(error: BaseException) -> int:
    """Prints an error, which is being handled; returns the exit code."""
    match error:
        case Interrupted():
            print(f"\n{error}", file=sys.stderr)
            return 128 + error.signum
        case KeyboardInterrupt():
            return 130
        case UserError():
            _print_error(error)
            return error.exit_code
        case BrokenPipeError():  # the reader of stdout, such as `head`, has ended
            _discard_stdout()
        case OSError(errno=errno.ENOSPC):  # of files it is a FileError
            _discard_stdout()
            _print_error(f"stdout cannot be written ({files.reason(error)}).")
        case _ if type(error).__name__ in _OUT_OF_MEMORY:
            _print_error(f"the memory ran out ({files.reason(error)}). {_SAVE_MEMORY}")
        case _:
            traceback.print_exc()
            _print_error(
                f"an unexpected {type(error).__name__}. Please report it, with the "
                f"lines above and this command:\n  {shlex.join(['python', *sys.argv])}"
            )
    return 1


def _discard_stdout():
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message):
    print(f"error: {message}", file=sys.stderr)


def leave_on_error(program: Callable[[], object]):
    """Runs a program; exits with a code other than 0 skip Python's clean-up.

    After an error in the middle of training, tf.data keeps decoding in Python
    threads even after garbage collection: the interpreter waits for them, and they
    wait for the interpreter. One exit in four hung, and others took 20 s.
    """
    try:
        program()
    except SystemExit as stop:
        if not isinstance(stop.code, int) or not stop.code:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code)
