"""Running a command so that a user's mistake reads as one line, not a traceback."""

import gc
import os
import sys
import traceback
from collections.abc import Callable

from trainers.core.errors import Interrupted


def quiet_start():
    """Silences TensorFlow's start-up notes, unless asked for; before its import.

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


def fail(message) -> None:
    """Prints `error: message` and exits with 1."""
    _print_error(message)
    sys.exit(1)


def run(command: Callable[[], int | None]):
    """Runs a command and exits with its code.

    What a user can put right (ValueError, OSError, ExportError and the like) is
    printed as `error: ...`, exit code 1; anything else is ours, and shows its
    traceback. A signal exits with 128 + its number.
    """
    code = _exit_code(command)
    # Threads of tf.data that call Python must end while there is a Python: an
    # iterator that is still alive when the interpreter shuts down hangs it.
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
    """Runs a program; exits of a code other than 0 skip Python's clean-up.

    After an error in the middle of training, tf.data goes on decoding in Python
    threads, whatever is collected: the interpreter on its way out waits for them
    and they for it. One exit in four hung.
    """
    try:
        program()
    except SystemExit as stop:
        if not isinstance(stop.code, int) or not stop.code:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code)
