"""A user's mistake is one message and exit code 1; other errors show a traceback."""

import gc
import os
import pathlib
import subprocess
import sys
import weakref

import pytest
import tensorflow as tf

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


def test_a_users_mistake_is_one_message(capsys):
    assert run(raising(UserError("bad config"))) == 1
    assert capsys.readouterr().err == "error: bad config\n"


@pytest.mark.parametrize("kind", [TypeError, ValueError, FileNotFoundError])
def test_other_errors_show_their_traceback_and_the_command(kind, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["trainers/video.py", "--model_dir", "my run"])
    assert run(raising(kind("a bug"))) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert f"{kind.__name__}: a bug" in errors
    assert f"error: an unexpected {kind.__name__}. Please report it" in errors
    assert errors.endswith("  python trainers/video.py --model_dir 'my run'\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        tf.errors.ResourceExhaustedError(
            None, None, "OOM when allocating tensor\nmore"
        ),
    ],
)
def test_memory_that_ran_out_is_one_message(error, capsys):
    assert run(raising(error)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory ran out (")
    assert "trainer.gradient_accumulation_steps" in line and "more" not in line


def test_a_closed_pipe_ends_the_output_quietly():
    script = (
        "from trainers.core import cli\n"
        "cli.run(lambda: [print('x' * 99, flush=True) for _ in range(10**5)] and 0)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait() == 1


@pytest.mark.parametrize("length", [1, 10**6])  # buffered, and not
def test_a_full_stdout_is_one_message(length):
    script = f"from trainers.core import cli\ncli.run(lambda: print('x' * {length}))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE
        )
    message = b"error: stdout cannot be written (No space left on device).\n"
    assert (done.returncode, done.stderr) == (1, message)


# === Mistakes that are found before the imports that take seconds ===


@pytest.fixture
def run_script(tmp_path):
    """Function that runs a script of `trainers/` without its packages."""

    def run(script, *arguments):
        return subprocess.run(
            [sys.executable, "-c", _WITHOUT_PACKAGES, ROOT / "trainers" / script]
            + list(arguments),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    return run


ROOT = pathlib.Path(__file__).parents[3]
PREDICT = ["--mode", "predict", "a.mp4"]
_WITHOUT_PACKAGES = """
import runpy, sys
slow = ["tensorflow", "keras", "tf_keras", "official", "orbit", "av", "matplotlib"]
sys.modules.update(dict.fromkeys(slow))  # importing these is an error now
sys.argv = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--mode is required"),
        (["--mode", "trian"], "--mode is 'trian'. Did you mean 'train'?"),
        (["--modle", "x"], "command line flag 'modle'. Did you mean: mode, model_dir"),
        (["--mode", "train"], "--model_dir is required"),
        (["--mode", "dry_run", "x.mp4"], "Unexpected arguments: x.mp4"),
        (["--mode", "predict", "--model_dir", "x"], "Nothing to predict"),
        (["--mode", "visualize", "--model_dir", "x"], "Nothing to visualize"),
        (["--mode", "predict", "--top_k", "0"], "0 is not a positive integer"),
        (["--mode", "dry_run", "--config"], "Missing value for flag --config"),
        (["--mode", "dry_run", "--config", "none.yaml"], "none.yaml: cannot be read"),
        (
            ["--mode", "dry_run", "--config", "bad.yaml"],
            "bad.yaml: not valid YAML: mapping values are not allowed here (line 2)",
        ),
        (["--mode", "dry_run", "--params_override=a"], "expected a.b.c=value"),
        (["--mode", "dry_run", "--params_override=a=["], "not valid YAML"),
        (["--mode", "dry_run"], "No experiment is named"),
        (
            ["--mode", "dry_run", "--experiment", "kinetic400"],
            "Unknown experiment 'kinetic400'. Did you mean 'kinetics400'?",
        ),
        (
            ["--mode", "dry_run", "--config", "name.yaml"],
            "Unknown experiment 'detection'",
        ),
        (["--mode", "train", "--model_dir", "."], "no params.yaml in .: nothing has"),
        (["--mode", "eval", "--model_dir", "old"], "old/params.yaml: has no `task`"),
        ([*PREDICT, "--model_dir", "x", "--step", "1"], "give --window, too"),
        ([*PREDICT, "--model_dir", "x", "--outputs", "sub"], "--outputs is 'sub'"),
        ([*PREDICT, "--export_dir", "x", "--checkpoint", "best"], "leave out --config"),
        (
            ["--mode", "visualize", "--model_dir", "x", "--query", "1,2", "a.mp4"],
            "--query must be t,y,x",
        ),
    ],
)
def test_mistakes_in_flags_and_yaml_need_no_tensorflow(
    run_script, tmp_path, arguments, message
):
    (tmp_path / "bad.yaml").write_text("a: 1\n b: 2\n")
    (tmp_path / "name.yaml").write_text("experiment: detection\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "params.yaml").write_text("experiment: ucf101\n")
    done = run_script("video.py", *arguments)
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "trian"], "--mode is 'trian'. Did you mean 'train'?"),
        (["--mode", "dry_run", "--config", "none.yaml"], "none.yaml: cannot be read"),
        (
            ["--mode", "dry_run", "--experiment", "detections"],
            "Unknown experiment 'detections'. Did you mean 'detection'?",
        ),
        (["--mode", "predict", "--model_dir", "x", "a.jpg"], "no params.yaml in x"),
    ],
)
def test_mistakes_of_detection_need_no_tensorflow(run_script, arguments, message):
    done = run_script("detection.py", *arguments)
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output_dir is required"),
        (["--output_dir", "x", "y"], "Unexpected arguments: y"),
        (["--output_dir", "x", "--config", "none.yaml"], "none.yaml: cannot be read"),
        (["--output_dir", "x", "--experiment", "ucf"], "Did you mean 'ucf101'?"),
        (["--quality", "101"], "101 is not an integer in the range [1, 100]"),
    ],
)
def test_mistakes_of_prepare_video_need_no_tensorflow(run_script, arguments, message):
    done = run_script("prepare_video.py", *arguments)
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--mode is required: dispatcher or worker"),
        (["--mode", "wroker"], "--mode is 'wroker'. Did you mean 'worker'?"),
        (["--mode", "worker"], "--dispatcher is required"),
        (
            ["--mode", "worker", "--dispatcher", "grpc://node1:5050"],
            "--host is required with --dispatcher grpc://node1:5050: the name or",
        ),
    ],
)
def test_mistakes_of_data_worker_need_no_tensorflow(run_script, arguments, message):
    done = run_script("data_worker.py", *arguments)
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize("script", ["video.py", "detection.py", "prepare_video.py"])
def test_help_lists_the_flags_of_configs(run_script, script):
    output = run_script(script, "--help").stdout
    for name in ("config", "experiment", "params_override"):
        assert f"  --{name}: " in output or f"  --{name};" in output


def test_imports_are_not_searched_for_garbage():
    try:
        with cli.importing():
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_the_command_is_garbage_collected_before_shutdown():
    """An iterator of tf.data would hang the exit."""

    class Iterator:
        pass

    alive = []

    def command():
        iterator = Iterator()
        iterator.itself = iterator
        alive.append(weakref.ref(iterator))

    assert run(command) == 0
    assert alive[0]() is None


def test_an_error_ends_the_process_without_freeing_what_its_frames_hold():
    """Freeing an iterator of tf.data took 20 seconds."""
    script = """
from trainers.core import cli
from trainers.core.errors import UserError

class Iterator:
    def __del__(self):
        print("freed", flush=True)

def main(arguments):
    iterator = Iterator()
    raise UserError("in the middle of it")

cli.start(main)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: in the middle of it\n"


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
