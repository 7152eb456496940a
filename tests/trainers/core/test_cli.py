"""A user's mistake is one message and exit code 1; ours keep their traceback."""

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


def test_our_mistakes_keep_their_traceback():
    with pytest.raises(TypeError):
        cli.run(raising(TypeError("a bug")))


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
