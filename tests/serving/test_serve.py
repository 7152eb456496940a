"""examples/serving/serve.py as a program: how it starts, and how it ends."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.serving
SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "serving" / "serve.py"


def start(export_dir, ports, tmp_path):
    """As a user starts it; its files go to a folder in `tmp_path`."""
    http, grpc = map(str, ports)
    (tmp_path / "scratch").mkdir()
    return subprocess.Popen(
        [sys.executable, SCRIPT, export_dir, "--http", http, "--grpc", grpc],
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def commands_with(text):
    """Command lines of running processes that contain `text`."""
    lines = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if text in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_too(number, version, free_ports, tmp_path):
    scratch = tmp_path / "scratch"
    process = start(pathlib.Path(version).parent, free_ports(), tmp_path)
    while "is served at" not in process.stdout.readline():
        assert process.poll() is None
    assert len(commands_with(str(scratch))) == 1  # the server
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    assert not commands_with(str(scratch)) and not os.listdir(scratch)


@pytest.mark.parametrize("place", [0, 1])
def test_a_port_in_use_is_named(place, version, free_ports, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = free_ports()
        ports[place] = other.getsockname()[1]
        process = start(pathlib.Path(version).parent, ports, tmp_path)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"cannot listen at 127.0.0.1:{ports[place]} (Address already" in output
    assert "Traceback" not in output


def test_an_export_that_cannot_be_loaded_is_an_error(version, free_ports, tmp_path):
    folder = tmp_path / "export" / "1"
    (folder / "assets").mkdir(parents=True)
    (folder / "saved_model.pb").write_text("rubbish")
    about = pathlib.Path(version, "assets", "metadata.json").read_text()
    (folder / "assets" / "metadata.json").write_text(about)
    process = start(folder.parent, free_ports(), tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: the server has ended with code" in output.splitlines()[-1]
