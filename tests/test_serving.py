"""MLServer with an export: answers, load, rubbish; TF Serving's messages.

The tests of the tier `serving` start the real server on loopback.
"""

import base64
import collections
import importlib
import json
import pathlib
import random
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.mutated_requests import mutated, valid_requests
from tests.trainers.test_export import (
    CLASSES,
    NUM_FRAMES,
    SHORT_SIDE,
    call,
    make_model,
    make_task,
    noise,
)
from trainers.video_classification import export

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
LIMITS = {"max_frames": 8, "max_frame_bytes": 50_000, "max_request_pixels": 200_000}


@pytest.fixture(scope="module")
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


# === Without a server ===


def test_messages_for_tf_serving_are_answered_by_the_session_loader(
    version, network, example
):
    client = example("client")
    frames = client.encode(noise(NUM_FRAMES, SHORT_SIDE, 50))
    request = client.tfserving_request("video", frames)
    path, body = client.tfserving_rest("video", frames)
    assert path == "/v1/models/video:predict"
    body = json.loads(json.dumps(body))
    data = [client.base64.b64decode(x["b64"]) for x in body["inputs"]["frames"][0]]
    assert data == tf.make_ndarray(request.inputs["frames"])[0].tolist() == frames
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], version)
        signature = meta.signature_def[request.model_spec.signature_name]
        feeds = {
            signature.inputs[name].name: tf.make_ndarray(x)
            for name, x in request.inputs.items()
        }
        names = session.run(signature.outputs["classes"].name, feeds)
    expected = client.of_network(network, frames)
    assert [x.decode() for x in names[0]] == [name for name, _ in expected]
    assert {name for name, _ in expected} == set(CLASSES)


def test_jpeg_frames_of_the_client_are_near_the_pixels(example):
    y, x = np.mgrid[:40, :56]
    frame = np.stack([4 * x, 6 * y, 255 - 4 * x], axis=-1).astype(np.uint8)
    (file,) = example("client").encode(frame[None])
    decoded = tf.io.decode_jpeg(file).numpy().astype(int)
    assert np.abs(decoded - frame).mean() < 3


# === MLServer ===


def free_ports():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [x.getsockname()[1] for x in sockets]
    for x in sockets:
        x.close()
    return ports


@pytest.fixture(scope="module")
def server(version, example, tmp_path_factory):
    """The ports of a running server: (HTTP, gRPC)."""
    serve, folder = example("serve"), tmp_path_factory.mktemp("mlserver")
    http, grpc = free_ports()
    serve.write_settings(folder, version, "127.0.0.1", http, grpc)
    with open(folder / "log", "w") as log:
        process = serve.start(folder, stdout=log, stderr=log)
        try:
            serve.wait_until_ready(process, http)
            yield http, grpc
            assert process.poll() is None  # it has survived the tests
        finally:
            process.terminate()
            process.wait(60)


def infer(port, inputs, signature=None):
    """Outputs of a request by HTTP; `RuntimeError` if it is refused."""
    names = {"uint8": "UINT8", "float32": "FP32", "object": "BYTES", "bool": "BOOL"}
    tensors = []
    for name, x in inputs.items():
        kind = names.get(x.dtype.name, "FP64" if x.dtype.kind == "f" else "INT64")
        data = x.ravel().tolist()
        if kind == "BYTES":
            data = [base64.b64encode(item).decode() for item in data]
        tensors.append(
            {"name": name, "datatype": kind, "shape": [*x.shape], "data": data}
        )
    body = {"inputs": tensors}
    if signature:
        body["parameters"] = {"signature": signature}
    return post(port, json.dumps(body).encode())


def post(port, data):
    url = f"http://127.0.0.1:{port}/v2/models/video/infer"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {error.read()[:500]}") from error
    return {
        x["name"]: np.array(x["data"]).reshape(x["shape"]) for x in answer["outputs"]
    }


@pytest.mark.serving
def test_metadata_are_declared(server):
    url = f"http://127.0.0.1:{server[0]}/v2/models/video"
    about = json.load(urllib.request.urlopen(url))
    assert about["inputs"][0]["shape"] == [-1, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE, 3]
    outputs = {x["name"]: x["shape"] for x in about["outputs"]}
    assert outputs["logits"] == [-1, 3] and outputs["classes"] == [-1, 3]


@pytest.mark.serving
def test_both_protocols_answer_as_the_network_does(server, network, example):
    client = example("client")
    frames = client.encode(noise(NUM_FRAMES, SHORT_SIDE, 50))
    expected = client.of_network(network, frames)
    for protocol, port in zip(("rest", "grpc"), server, strict=True):
        found = client.ask("kserve", protocol, f"127.0.0.1:{port}", "video", frames)
        assert [name for name, _ in found] == [name for name, _ in expected]
        scores = [score for _, score in found]
        np.testing.assert_allclose(scores, [x for _, x in expected], rtol=1e-5)


@pytest.mark.serving
def test_8_clients_get_500_answers_each_its_own(server, network):
    clips = np.random.default_rng(3).integers(
        0, 256, (20, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE, 3), np.uint8
    )
    expected = [call(network, clips=clip[None])["logits"][0] for clip in clips]
    rubbish = np.zeros((1, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE, 4), np.uint8)
    slowest = []

    def ask(number):
        if number % 25 == 24:  # in between, what is refused
            with pytest.raises(RuntimeError, match="400"):
                infer(server[0], {"clips": rubbish})
            return
        k = number % len(clips)
        begin = time.monotonic()
        outputs = infer(server[0], {"clips": clips[k][None]})
        slowest.append(time.monotonic() - begin)
        np.testing.assert_allclose(outputs["logits"][0], expected[k], atol=1e-4)

    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(500)))
    rate = 500 / (time.monotonic() - begin)
    print(f"{rate:.0f} requests a second; slowest {max(slowest):.2f} s")
    assert len(slowest) == 480


@pytest.mark.serving
def test_mutated_requests_are_answered_or_refused(server):
    requests, chance = valid_requests(NUM_FRAMES), random.Random(1)
    outcomes = collections.Counter()
    for _ in range(1000):
        signature, inputs = mutated(requests, chance)
        try:
            outputs = infer(server[0], inputs, signature)
        except RuntimeError as error:
            assert str(error)[:3] in ("400", "422"), error
            outcomes["refused"] += 1
            continue
        batch = len(inputs.get("clips", inputs.get("frames")))
        outcomes["answered"] += 1
        for name, value in outputs.items():
            assert value.size and (len(value) == batch or "_" in name)
    assert min(outcomes["refused"], outcomes["answered"]) > 100


@pytest.mark.serving
def test_rubbish_and_oversized_requests_are_refused(server, network, example):
    for data in (b"", b"{", b"\0" * 1000, b"[]", b'{"inputs": 3}', b"[" * 10_000):
        with pytest.raises(RuntimeError, match="4\\d\\d"):
            post(server[0], data)
    large = {"clips": np.zeros((1, 9, 200, 200, 3), np.uint8)}
    with pytest.raises(RuntimeError, match="has 9 frames; expected 1 to 8"):
        infer(server[0], large)
    frames = np.array([[b"\xff\xd8\xff" + bytes(60_000)] * NUM_FRAMES], object)
    with pytest.raises(RuntimeError, match="max_frame_bytes"):
        infer(server[0], {"frames": frames}, "jpeg")
    with pytest.raises(RuntimeError, match="400"):
        infer(server[0], {"clips": noise(1, 4, 40, 40)}, "no_such_signature")
    test_both_protocols_answer_as_the_network_does(server, network, example)
