"""Runs a command so that a user's mistake is printed as one line, not a traceback."""

import gc
import os
import sys
import traceback
from collections.abc import Callable

from absl import flags

from trainers.core.errors import Interrupted


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


def define_config_flags():
    """Defines --config, --experiment and --params_override, which build a config."""
    flags.DEFINE_multi_string(
        "config", [], "YAML file; may be given several times, later over earlier."
    )
    flags.DEFINE_string(
        "experiment", None, "Factory to start from; over the one that a config names."
    )
    flags.DEFINE_multi_string(
        "params_override", [], "a.b=c, over all configs; may be given several times."
    )


def fail(message) -> None:
    """Prints `error: message` and exits with 1."""
    _print_error(message)
    sys.exit(1)


def run(command: Callable[[], int | None]):
    """Runs a command and exits with its code.

    Errors that a user can correct (ValueError and OSError, with their subclasses)
    are printed as `error: ...`, with exit code 1; all others show their traceback,
    as does a user's mistake if NONLOCAL_TRACEBACK is set. After a signal the exit
    code is 128 + its number.
    """
    code = _exit_code(command)
    # tf.data's threads call Python: an iterator that still exists when the
    # interpreter shuts down would block it forever.
    gc.collect()
    sys.exit(code)


def _exit_code(command) -> int:
    try:
        return command() or 0
    except Interrupted as interrupted:
        print(f"\n{interrupted}", file=sys.stderr)
        return 128 + interrupted.signum
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        _print_error(error)
        if os.environ.get("NONLOCAL_TRACEBACK"):
            traceback.print_exc()
    except Exception:
        traceback.print_exc()
    return 1


def _print_error(message):
    print(f"error: {message}", file=sys.stderr)


def leave_on_error(program: Callable[[], object]):
    """Runs a program; exits with a code other than 0 skip Python's clean-up.

    After an error in the middle of training, tf.data keeps decoding in Python
    threads even after garbage collection: the interpreter waits for them, and they
    wait for the interpreter. One exit in four hung.
    """
    try:
        program()
    except SystemExit as stop:
        if not isinstance(stop.code, int) or not stop.code:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code)
