"""Asks a server about a video: TF Serving's API or KServe's v2, by REST or gRPC.

    python examples/client.py kserve rest 127.0.0.1:8080 EXPORT_DIR VIDEO
    python examples/client.py tfserving grpc 127.0.0.1:8500 EXPORT_DIR VIDEO

Sends the clip in the middle of the video as JPEG frames to the signature `jpeg`, and
prints the best classes. EXPORT_DIR says which frames a clip has; the model is called
`video` (--model). KServe by gRPC needs tritonclient, TF Serving by gRPC
tensorflow-serving-api; requests by REST need neither.
"""

import argparse
import base64
import http.client
import io
import json
import sys
import urllib.error
import urllib.request

import av
import numpy as np
import predict_with_saved_model as direct

_MAX_BYTES = 2**28  # of a message


def encode(frames):
    """uint8 `(T, H, W, 3)` as JPEG files."""
    return [_jpeg(frame) for frame in frames]


def _jpeg(frame):
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.height, stream.width = frame.shape[:2]
        stream.pix_fmt = "yuvj444p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        container.mux(stream.encode(image))
        container.mux(stream.encode())
    return file.getvalue()


# === Requests and answers: [(class, score), ...], the best first ===


def ask(api, protocol, address, model, frames):
    """Asks a server about one clip.

    Args:
        api: `kserve` or `tfserving`.
        protocol: `rest` or `grpc`.
        address: `host:port`.
        model: Its name on the server.
        frames: JPEG files.

    Raises:
        RuntimeError: The server refuses, with its reason.
    """
    if protocol == "rest":
        path, body = REST[api](model, frames)
        return _pairs(_post(f"http://{address}{path}", body))
    return GRPC[api](address, model, frames)


def kserve_rest(model, frames):
    """Path and body of a request."""
    data = [base64.b64encode(frame).decode() for frame in frames]
    tensor = {"name": "frames", "datatype": "BYTES", "shape": [1, len(frames)]}
    body = {"parameters": {"signature": "jpeg"}, "inputs": [tensor | {"data": data}]}
    return f"/v2/models/{model}/infer", body


def tfserving_rest(model, frames):
    """Path and body of a request."""
    data = [{"b64": base64.b64encode(frame).decode()} for frame in frames]
    body = {"signature_name": "jpeg", "inputs": {"frames": [data]}}
    return f"/v1/models/{model}:predict", body


def _post(url, body):
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {_reason(error.read())}") from error
    except http.client.HTTPException as error:
        raise RuntimeError(f"no HTTP server, or none any more, at {url}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise RuntimeError(f"no answer from {url}: {reason}") from error


def _reason(body):
    """What a server says of an error: KServe and TF Serving call it `error`."""
    text = body.decode(errors="replace")
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text


def _pairs(answer):
    try:
        outputs = answer["outputs"]
        if isinstance(outputs, list):  # KServe's
            outputs = {x["name"]: [x["data"]] for x in outputs}
        names, scores = (outputs[name][0] for name in _OUTPUTS)
    except (KeyError, TypeError, IndexError) as error:
        raise RuntimeError(f"not the answer of an export: {answer}"[:500]) from error
    return list(zip(names, scores, strict=True))


def tfserving_request(model, frames):
    """The message of TF Serving's gRPC."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, "jpeg"
    tensor = tf.make_tensor_proto([frames], shape=[1, len(frames)])
    request.inputs["frames"].CopyFrom(tensor)
    return request


def tfserving_grpc(address, model, frames):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(address, _OPTIONS) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(tfserving_request(model, frames), timeout=120)
        except grpc.RpcError as error:
            raise RuntimeError(f"{address}: {error.details()}") from error
    names, scores = (tf.make_ndarray(answer.outputs[x])[0] for x in _OUTPUTS)
    return [(x.decode(), float(y)) for x, y in zip(names, scores, strict=True)]


def kserve_grpc(address, model, frames):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name=model)
    request.parameters["signature"].string_param = "jpeg"
    tensor = request.inputs.add(name="frames", datatype="BYTES", shape=[1, len(frames)])
    tensor.contents.bytes_contents.extend(frames)
    with grpc.insecure_channel(address, _OPTIONS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            answer = stub.ModelInfer(request, timeout=120)
        except grpc.RpcError as error:
            raise RuntimeError(f"{address}: {error.details()}") from error
    found = {x.name: x.contents for x in answer.outputs}
    names, scores = (found[name] for name in _OUTPUTS)
    names = [name.decode() for name in names.bytes_contents]
    return list(zip(names, scores.fp32_contents, strict=True))


_OPTIONS = [
    ("grpc.max_send_message_length", _MAX_BYTES),
    ("grpc.max_receive_message_length", _MAX_BYTES),
]
_OUTPUTS = ("classes", "scores")
REST = {"kserve": kserve_rest, "tfserving": tfserving_rest}
GRPC = {"kserve": kserve_grpc, "tfserving": tfserving_grpc}


def of_network(network, frames):
    """The same from the loaded network, without a server."""
    import tensorflow as tf

    outputs = network.signatures["jpeg"](frames=tf.constant([frames]))
    names, scores = (outputs[name][0].numpy() for name in _OUTPUTS)
    return [(x.decode(), float(y)) for x, y in zip(names, scores, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("api", choices=REST)
    parser.add_argument("protocol", choices=("rest", "grpc"))
    parser.add_argument("address")
    parser.add_argument("export_dir")
    parser.add_argument("video")
    parser.add_argument("--model", default="video")
    arguments = parser.parse_args()
    version = direct.newest_version(arguments.export_dir)
    about = json.loads(direct.read_asset(version, "preprocessing.json"))
    clip = about["num_frames"], about["temporal_stride"], about["fps"]
    try:
        frames = encode(direct.read_middle_clip(arguments.video, *clip))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {arguments.video}: {direct.reason(error)}")
    try:
        server = arguments.api, arguments.protocol, arguments.address, arguments.model
        for name, score in ask(*server, frames):
            print(f"{name}  {score:.3f}")
    except (ImportError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
