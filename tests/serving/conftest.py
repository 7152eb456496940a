"""An export, and the programs of `examples/` that serve it and ask it."""

import importlib
import pathlib
import socket
import sys

import pytest
import tensorflow as tf

from tests.trainers.test_export import make_model, make_task
from trainers.video_classification import export

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
LIMITS = {"max_frames": 8, "max_frame_bytes": 50_000, "max_request_pixels": 200_000}


@pytest.fixture(scope="session")
def version(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    task, model = make_task(limits=LIMITS), make_model(non_local={"res3": [0]})
    return export.export_saved_model(task, model, folder)


@pytest.fixture(scope="module")
def network(version):
    return tf.saved_model.load(version)


@pytest.fixture(scope="module")
def example():
    """Function that imports a module of `examples/`."""
    added = [str(EXAMPLES), str(EXAMPLES / "serving")]
    sys.path[:0] = added
    yield importlib.import_module
    sys.path[:] = [path for path in sys.path if path not in added]


@pytest.fixture(scope="session")
def free_ports():
    """Function that returns two ports at which nothing listens."""

    def find():
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [x.getsockname()[1] for x in sockets]
        for x in sockets:
            x.close()
        return ports

    return find
