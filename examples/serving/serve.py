"""Starts MLServer with an export of trainers/video.py: KServe's protocol v2.

    python examples/serving/serve.py EXPORT_DIR [--http 8080] [--grpc 8081]
    python examples/serving/serve.py EXPORT_DIR --once VIDEO

Needs `pip install -e '.[mlserver]'`. It writes MLServer's two files of settings, with
the inputs and outputs of the newest version declared, and starts the server; it listens
on this machine alone (--host). With --once it asks the server about a video, compares
the answer with that of the network itself, and ends.
"""

import argparse
import json
import os
import pathlib
import signal
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
    # MLServer 1.7.1 cannot start processes of its own with uvloop 0.23.
    server |= {"parallel_workers": 0, "grpc_max_message_length": 2**28}
    shapes = {"logits": count, "probabilities": count, "classes": best, "scores": best}
    model = {
        "name": NAME,
        "implementation": "runtime.SavedModel",
        "parameters": {
            "uri": os.path.abspath(version),
            "version": pathlib.Path(version).name,
            "extra": {"max_batch_size": 8, "max_batch_time": 0.01},
        },
        "platform": "tensorflow_savedmodel",
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


def start(folder, **options):
    """Starts the server in a process of its own."""
    paths = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    mlserver = pathlib.Path(sys.executable).parent / "mlserver"
    return subprocess.Popen([mlserver, "start", folder], env=env, **options)


def wait_until_ready(process, http, seconds=300):
    """Raises `RuntimeError` if the server ends, or is not ready in time."""
    url = f"http://127.0.0.1:{http}/v2/models/{NAME}/ready"
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


def ask_once(process, arguments, version):
    """Compares the server's answers about a video with those of the network."""
    wait_until_ready(process, arguments.http)
    network, classes, clip = direct.load(version)
    frames = direct.read_middle_clip(arguments.once, *clip)
    encoded = client.encode(frames)
    expected = client.of_network(network, encoded)
    for protocol, port in (("rest", arguments.http), ("grpc", arguments.grpc)):
        found = client.ask("kserve", protocol, f"127.0.0.1:{port}", NAME, encoded)
        difference = max(abs(a[1] - b[1]) for a, b in zip(found, expected, strict=True))
        print(
            f"{protocol}: {found[0][0]} {found[0][1]:.4f}; difference {difference:.1e}"
        )
        if difference > 1e-5 or found[0][0] != expected[0][0]:
            sys.exit(f"error: the server answers {found}; the network: {expected}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("export_dir")
    parser.add_argument("--http", type=int, default=8080)
    parser.add_argument("--grpc", type=int, default=8081)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--once", metavar="VIDEO")
    arguments = parser.parse_args()
    version = direct.newest_version(arguments.export_dir)
    with tempfile.TemporaryDirectory() as folder:
        address = arguments.host, arguments.http, arguments.grpc
        write_settings(folder, version, *address)
        process = start(folder)
        try:
            if arguments.once:
                ask_once(process, arguments, version)
            else:
                process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    main()
