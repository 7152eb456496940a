"""examples/client.py: what it sends, and what it reads in answers."""

import base64
import contextlib
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.test_export import CLASSES, NUM_FRAMES, SHORT_SIDE, call, noise


def test_messages_for_tf_serving_are_answered_by_the_session_loader(
    version, network, example
):
    client = example("client")
    frames = client.encode(noise(NUM_FRAMES, SHORT_SIDE, 50))
    request = client.tfserving_request("video", frames)
    path, body = client.tfserving_rest("video", frames)
    assert path == "/v1/models/video:predict"
    body = json.loads(json.dumps(body))
    data = [base64.b64decode(x["b64"]) for x in body["inputs"]["frames"][0]]
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


class _TFServing(http.server.BaseHTTPRequestHandler):
    """The answers of TF Serving's REST API, as its documentation has them."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/models/video:predict":
            return self.reply(404, {"error": "Servable not found"})
        frames = [[base64.b64decode(x["b64"]) for x in body["inputs"]["frames"][0]]]
        outputs = call(self.server.network, body["signature_name"], frames=frames)
        outputs["classes"] = np.vectorize(bytes.decode)(outputs["classes"])
        self.reply(200, {"outputs": {x: y.tolist() for x, y in outputs.items()}})

    def reply(self, code, answer):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def tf_serving_rest(network):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TFServing) as server:
        server.network = network
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def tf_serving_grpc(network):
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != "video":
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            frames = tf.make_ndarray(request.inputs["frames"])
            outputs = call(network, request.model_spec.signature_name, frames=frames)
            answer = predict_pb2.PredictResponse()
            for name, x in outputs.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(x))
            return answer

    server = grpc.server(ThreadPoolExecutor(1))
    add = prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server
    add(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("protocol", "running"), [("rest", tf_serving_rest), ("grpc", tf_serving_grpc)]
)
def test_the_client_reads_answers_and_errors_of_tf_serving(
    protocol, running, network, example
):
    client = example("client")
    frames = client.encode(noise(NUM_FRAMES, SHORT_SIDE, 50))
    with running(network) as address:
        found = client.ask("tfserving", protocol, address, "video", frames)
        with pytest.raises(RuntimeError, match=f"{address}.*: Servable not found$"):
            client.ask("tfserving", protocol, address, "other", frames)
    expected = client.of_network(network, frames)
    assert [name for name, _ in found] == [name for name, _ in expected]
    scores = [score for _, score in found]
    np.testing.assert_allclose(scores, [x for _, x in expected], rtol=1e-6)
    with pytest.raises(RuntimeError, match=f"{address}.*refused"):
        client.ask("tfserving", protocol, address, "video", frames)
