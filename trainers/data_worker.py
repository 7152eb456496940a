"""Runs a part of a tf.data service, which makes training batches for trainers/video.py.

One dispatcher, and any number of workers, on machines that see the same data:

    python trainers/data_worker.py --mode dispatcher --port 5050
    python trainers/data_worker.py --mode worker --dispatcher HOST:5050 --host THIS_HOST

A training uses them with `task.train_data.enable_tf_data_service: true` and
`task.train_data.tf_data_service_address: grpc://HOST:5050`.
"""

import pathlib
import signal
import socket
import sys

if not __package__:  # run as a file: imports start at the repository root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from trainers.core import cli

cli.quiet_start()

from absl import flags  # noqa: E402

from trainers.core.errors import UserError, check_key  # noqa: E402

_MODE = flags.DEFINE_string("mode", None, "dispatcher or worker.")
_PORT = flags.DEFINE_integer(
    "port", 0, "Port of this process; 0: any that is free.", lower_bound=0
)
_DISPATCHER = flags.DEFINE_string("dispatcher", "", "worker: HOST:PORT of its own.")
_HOST = flags.DEFINE_string(
    "host",
    None,
    "worker: name or address that trainers reach this machine by; localhost where the "
    "dispatcher is localhost, too.",
)
_WORK_DIR = flags.DEFINE_string(
    "work_dir", "", "dispatcher: folder of its state, so that it can be restarted."
)
_LOCAL = ("localhost:", "127.0.0.1:", "[::1]:")


def main(arguments) -> None:
    """Starts what the flags describe, and waits for a signal."""
    if len(arguments) > 1:
        raise UserError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    if _MODE.value is None:
        raise UserError("--mode is required: dispatcher or worker; see --help.")
    check_key("--mode", _MODE.value, ("dispatcher", "worker"))
    if _MODE.value == "worker":
        _check_addresses()
    start = {"dispatcher": _start_dispatcher, "worker": _start_worker}[_MODE.value]
    running = start()
    while running:
        signal.pause()


def _check_addresses():
    if not _DISPATCHER.value:
        raise UserError("--dispatcher is required; see --help.")
    is_local = _DISPATCHER.value.removeprefix("grpc://").startswith(_LOCAL)
    if _HOST.value is None and not is_local:
        raise UserError(
            f"--host is required with --dispatcher {_DISPATCHER.value}: the name or "
            "address that trainers reach this machine by, such as "
            f"{socket.gethostname()}."
        )


def _start_dispatcher():
    from trainers.core import data_service

    server = data_service.start_dispatcher(_PORT.value, _WORK_DIR.value)
    port = server.target.rpartition(":")[2]
    print(
        f"Dispatcher at {server.target} (from other machines grpc://"
        f"{socket.gethostname()}:{port}, or another name of this one)",
        flush=True,
    )
    return server


def _start_worker():
    from trainers.core import data_service
    from trainers.video_classification.data import service_worker

    registered = data_service.register(service_worker.make_batch)
    host = _HOST.value or "localhost"
    server = data_service.start_worker(_DISPATCHER.value, _PORT.value, host)
    print(f"Worker for {_DISPATCHER.value}, reached as {host}", flush=True)
    return server, registered


if __name__ == "__main__":
    cli.start(main)
