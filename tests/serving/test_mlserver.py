"""MLServer with an export: answers, load, rubbish and oversized requests."""

import base64
import collections
import gzip
import json
import random
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.trainers.mutated_requests import mutated, valid_requests
from tests.trainers.test_export import NUM_FRAMES, SHORT_SIDE, call, noise

pytestmark = pytest.mark.serving


@pytest.fixture(scope="module")
def server(version, example, free_ports, tmp_path_factory):
    """The ports of a running server: (HTTP, gRPC)."""
    serve, folder = example("serve"), tmp_path_factory.mktemp("mlserver")
    http, grpc = free_ports()
    serve.write_settings(folder, version, "127.0.0.1", http, grpc)
    with (
        open(folder / "log", "w") as log,
        serve.started(folder, stdout=log, stderr=log) as process,
    ):
        serve.wait_until_ready(process, f"127.0.0.1:{http}")
        yield http, grpc
        assert process.poll() is None  # it has survived the tests


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


def post(port, data, headers=None):
    url = f"http://127.0.0.1:{port}/v2/models/video/infer"
    headers = {"Content-Type": "application/json"} | (headers or {})
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {error.read().decode()[:500]}") from error
    return {
        x["name"]: np.array(x["data"]).reshape(x["shape"]) for x in answer["outputs"]
    }


def test_metadata_are_declared(server):
    url = f"http://127.0.0.1:{server[0]}/v2/models/video"
    about = json.load(urllib.request.urlopen(url))
    assert about["inputs"][0]["shape"] == [-1, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE, 3]
    outputs = {x["name"]: x["shape"] for x in about["outputs"]}
    assert outputs["logits"] == [-1, 3] and outputs["classes"] == [-1, 3]


def test_both_protocols_answer_as_the_network_does(server, network, example):
    client = example("client")
    frames = client.encode(noise(NUM_FRAMES, SHORT_SIDE, 50))
    expected = client.of_network(network, frames)
    for protocol, port in zip(("rest", "grpc"), server, strict=True):
        found = client.ask("kserve", protocol, f"127.0.0.1:{port}", "video", frames)
        assert [name for name, _ in found] == [name for name, _ in expected]
        scores = [score for _, score in found]
        np.testing.assert_allclose(scores, [x for _, x in expected], rtol=1e-5)


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
    with pytest.raises(RuntimeError, match="no signature 'no_such_signature'"):
        infer(server[0], {"clips": noise(1, 4, 40, 40)}, "no_such_signature")
    # TensorFlow would fill the shape with the one item: 2^34 of them.
    tensor = {"name": "frames", "datatype": "BYTES", "shape": [2**20, 2**14]}
    body = {
        "parameters": {"signature": "jpeg"},
        "inputs": [tensor | {"data": ["/9j/"]}],
    }
    with pytest.raises(RuntimeError, match="400.*1 items of frames, whose shape is"):
        post(server[0], json.dumps(body).encode())
    test_both_protocols_answer_as_the_network_does(server, network, example)


def test_long_and_compressed_bodies_are_refused(server, network, example):
    begin = b'{"inputs": [{"name": "clips", "data": ['
    with pytest.raises(RuntimeError, match=r"413.*more than 67108864 bytes"):
        post(server[0], begin + b"0," * 2**25)
    with pytest.raises(RuntimeError, match="415.*compressed"):
        post(server[0], gzip.compress(bytes(1000)), {"Content-Encoding": "gzip"})
    test_both_protocols_answer_as_the_network_does(server, network, example)


@pytest.mark.parametrize("data", [[0, 300, 0], ["a", 0, 0], [0.5, None, 0], [0, 0]])
def test_values_that_are_no_pixels_are_refused(server, data):
    tensor = {"name": "clips", "datatype": "UINT8", "shape": [1, 1, 1, 1, 3]}
    with pytest.raises(RuntimeError, match="4\\d\\d"):
        post(server[0], json.dumps({"inputs": [tensor | {"data": data}]}).encode())


def test_an_unknown_model_is_named(server, example):
    client = example("client")
    for protocol, port in zip(("rest", "grpc"), server, strict=True):
        with pytest.raises(RuntimeError, match="Model other.* not found"):
            client.ask("kserve", protocol, f"127.0.0.1:{port}", "other", [b""])


def test_clients_of_triton_are_answered(server, network):
    """tritonclient sends arrays as raw bytes."""
    import tritonclient.grpc as triton

    clips = noise(2, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE)
    tensor = triton.InferInput("clips", [*clips.shape], "UINT8")
    tensor.set_data_from_numpy(clips)
    with triton.InferenceServerClient(f"127.0.0.1:{server[1]}") as client:
        logits = client.infer("video", [tensor]).as_numpy("logits")
    np.testing.assert_allclose(logits, call(network, clips=clips)["logits"], rtol=1e-4)
