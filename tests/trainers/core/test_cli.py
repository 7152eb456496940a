"""A user's mistake is one message and exit code 1; other errors show a traceback."""

import weakref

import pytest

from trainers.core import cli
from trainers.core.errors import Interrupted, UserError


def run(command):
    with pytest.raises(SystemExit) as caught:
        cli.run(command)
    return caught.value.code


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    "error", [UserError("bad config"), FileNotFoundError("bad config")]
)
def test_a_users_mistake_is_one_message(error, capsys):
    assert run(raising(error)) == 1
    assert capsys.readouterr().err == "error: bad config\n"


def test_other_errors_show_their_traceback(capsys):
    assert run(raising(TypeError("a bug"))) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert "TypeError: a bug" in errors


def test_the_command_is_garbage_collected_before_shutdown():
    """A tf.data iterator in a frame of the traceback would hang the exit."""

    class Iterator:
        pass

    alive = []

    def command():
        iterator = Iterator()
        iterator.itself = iterator
        alive.append(weakref.ref(iterator))
        raise UserError("in the middle of it")

    run(command)
    assert alive[0]() is None


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (lambda: None, 0),
        (lambda: 3, 3),
        (raising(Interrupted(15)), 143),
        (raising(KeyboardInterrupt()), 130),
    ],
)
def test_exit_codes(command, code):
    assert run(command) == code


def test_another_keras_backend_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(SystemExit, match="1"):
        cli.quiet_start()
    assert "KERAS_BACKEND is 'jax'" in capsys.readouterr().err
