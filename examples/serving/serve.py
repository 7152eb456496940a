"""Starts MLServer with an export of trainers/video.py: KServe's protocol v2.

    python examples/serving/serve.py EXPORT_DIR [--http 8080] [--grpc 8081]
    python examples/serving/serve.py EXPORT_DIR --once VIDEO

Needs `pip install -e '.[mlserver]'`. It writes MLServer's two files of settings, with
the inputs and outputs of the newest version declared, and starts the server, until
Ctrl-C or SIGTERM; it listens on this machine alone (--host). With --once it asks the
server about a video, compares the answer with that of the network itself, and ends.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

import client  # noqa: E402
import predict_with_saved_model as direct  # noqa: E402

NAME = "video"
MAX_BYTES = 2**26  # of a request; a list of numbers takes 14 times as much memory
_GRACE = 20  # seconds that the server has to answer what it was asked


def write_settings(folder, version, host, http, grpc):
    """Writes `settings.json` and `model-settings.json`.

    Args:
        folder: Where to write.
        version: Of the export.
        host: Address to listen at.
        http: Port.
        grpc: Port.
    """
    about = json.loads(direct.read_asset(version, "metadata.json"))
    clip, count = about["preprocessing"], len(about["classes"])
    side, ports = clip["short_side"], {"http_port": http, "grpc_port": grpc}
    best = about["top_k"]
    server = {"host": host, **ports, "metrics_endpoint": None, "debug": False}
    server |= {"parallel_workers": 0, "grpc_max_message_length": MAX_BYTES}
    shapes = {"logits": count, "probabilities": count, "classes": best, "scores": best}
    model = {
        "name": NAME,
        "implementation": "runtime.SavedModel",
        "parameters": {
            "uri": version if "://" in version else os.path.abspath(version),
            "version": pathlib.PurePath(version).name,
            "extra": {"max_batch_size": 8, "max_batch_time": 0.01},
        },
        "platform": "tensorflow_savedmodel",
        "versions": [pathlib.PurePath(version).name],
        "inputs": [
            {
                "name": "clips",
                "datatype": "UINT8",
                "shape": [-1, clip["num_frames"], side, side, 3],
            }
        ],
        "outputs": [
            {
                "name": name,
                "datatype": "BYTES" if name == "classes" else "FP32",
                "shape": [-1, size],
            }
            for name, size in shapes.items()
        ],
    }
    for name, values in (("settings", server), ("model-settings", model)):
        text = json.dumps(values, indent=2) + "\n"
        pathlib.Path(folder, f"{name}.json").write_text(text)


def check_ports(host, *ports):
    """Exits if another program listens at one: gRPC would share its port with it."""
    for port in ports:
        try:
            with socket.socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            sys.exit(
                f"error: cannot listen at {host}:{port} ({reason}): choose other ports "
                "with --http and --grpc, or end the program that listens there"
            )


@contextlib.contextmanager
def started(folder, **options):
    """Context: the server, a process of its own, which ends with the block."""
    command = [sys.executable, FOLDER / "server.py", folder, str(MAX_BYTES)]
    # In a session of its own: Ctrl-C reaches this program, which then ends it.
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        try:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        finally:  # also after another Ctrl-C
            process.kill()
            process.wait()


def wait_until_ready(process, address, seconds=300):
    """Raises `RuntimeError` if the server ends, or is not ready in time."""
    url = f"http://{address}/v2/models/{NAME}/ready"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended with code {process.returncode}")
    raise RuntimeError(f"the server is not ready after {seconds} s")


def ask_once(addresses, video, version):
    """Compares the server's answers about a video with those of the network."""
    network, _, clip = direct.load(version)
    encoded = client.encode(direct.read_middle_clip(video, *clip))
    expected = client.of_network(network, encoded)
    for protocol, address in addresses.items():
        found = client.ask("kserve", protocol, address, NAME, encoded)
        difference = max(abs(a[1] - b[1]) for a, b in zip(found, expected, strict=True))
        print(
            f"{protocol}: {found[0][0]} {found[0][1]:.4f}; difference {difference:.1e}"
        )
        if difference > 1e-5 or found[0][0] != expected[0][0]:
            raise RuntimeError(f"the server answers {found}; the network: {expected}")


def serve(arguments, version, folder):
    """Runs the server until it ends; with --once, until it has answered."""
    ports = {"rest": arguments.http, "grpc": arguments.grpc}
    write_settings(folder, version, arguments.host, *ports.values())
    # A server on all addresses is asked on this machine.
    host = {"0.0.0.0": "127.0.0.1"}.get(arguments.host, arguments.host)
    addresses = {protocol: f"{host}:{port}" for protocol, port in ports.items()}
    with started(folder) as process:
        wait_until_ready(process, addresses["rest"])
        if arguments.once is not None:
            return ask_once(addresses, arguments.once, version)
        places = " and ".join(f"{address} ({x})" for x, address in addresses.items())
        print(f"{version} is served at {places}; Ctrl-C ends it", flush=True)
        raise RuntimeError(f"the server has ended with code {process.wait()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("export_dir")
    parser.add_argument("--http", type=int, default=8080)
    parser.add_argument("--grpc", type=int, default=8081)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--once", metavar="VIDEO")
    arguments = parser.parse_args()
    if not importlib.util.find_spec("mlserver"):
        sys.exit("error: MLServer is not installed: pip install -e '.[mlserver]'")
    version = direct.newest_version(arguments.export_dir)
    check_ports(arguments.host, arguments.http, arguments.grpc)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch, NAME)  # MLServer warns of other names
            folder.mkdir()
            serve(arguments, version, folder)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, RuntimeError, ValueError, direct.tf.errors.OpError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
