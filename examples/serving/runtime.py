"""Runs an export of trainers/video.py in MLServer (KServe v2, HTTP and gRPC)."""

import asyncio
import base64
import math
import os
import re
import types
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf
from mlserver import MLModel
from mlserver.batching import AdaptiveBatcher
from mlserver.codecs import NumpyCodec
from mlserver.codecs.numpy import to_datatype
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse, ResponseOutput
from tensorflow_serving.apis import prediction_log_pb2

DEFAULT = "serving_default"
WARMUP = "assets.extra/tf_serving_warmup_requests"


class SavedModel(MLModel):
    """One request, or batch, after another: the memory is that of a single one.

    They run in a thread, so that the server answers questions about its health.
    """

    async def load(self):
        self._thread = ThreadPoolExecutor(1)
        self._network = await self._in_thread(_load, self.settings.parameters.uri)
        batching = types.SimpleNamespace(**self.settings.parameters.extra)
        held = types.SimpleNamespace(settings=batching, predict=self._run)
        self._batcher = AdaptiveBatcher(held)
        return True

    async def unload(self):
        self._thread.shutdown(wait=False, cancel_futures=True)
        return True

    async def predict(self, payload):
        if self._can_be_merged(payload):
            try:
                # A client that hangs up must not end the batch of the others.
                return await asyncio.shield(self._batcher.predict(payload))
            except MLServerError:
                pass  # One of the batch is refused: each is asked alone.
        return await self._run(payload)

    def _can_be_merged(self, payload) -> bool:
        """Whether it has clips of the declared shape, and their number of pixels.

        MLServer merges whatever it is given, into the shape and type of the first.
        """
        declared = self.inputs[0]
        return (
            _signature(payload) == DEFAULT
            and [(x.name, x.datatype) for x in payload.inputs]
            == [(declared.name, declared.datatype)]
            and payload.inputs[0].shape[1:] == declared.shape[1:]
            and _is_complete(payload.inputs[0])
        )

    async def _run(self, payload):
        outputs = await self._in_thread(self._answer, payload)
        return InferenceResponse(model_name=self.name, outputs=outputs)

    def _answer(self, payload):
        name, signatures = _signature(payload), self._network.signatures
        if name not in signatures:
            raise MLServerError(f"no signature {name!r}; there are {[*signatures]}")
        try:
            inputs = {x.name: _tensor(x) for x in payload.inputs}
            outputs = signatures[name](**inputs)
        except (tf.errors.OpError, ArithmeticError, TypeError, ValueError) as error:
            raise MLServerError(_reason(error)) from error
        return [_output(key, x.numpy()) for key, x in outputs.items()]

    async def _in_thread(self, function, *args):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *args)


def _load(version):
    """The network of an export, after the requests that it was exported with."""
    network = tf.saved_model.load(version)
    records = tf.data.TFRecordDataset(os.path.join(version, WARMUP))
    for record in records.as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        inputs = {name: tf.make_ndarray(x) for name, x in log.request.inputs.items()}
        signature = network.signatures[log.request.model_spec.signature_name]
        signature(**{name: tf.constant(x) for name, x in inputs.items()})
    return network


def _signature(payload) -> str:
    return str(getattr(payload.parameters, "signature", DEFAULT))


def _data(x):
    return getattr(x.data, "root", x.data)


def _is_complete(x) -> bool:
    return isinstance(_data(x), list) and len(_data(x)) == math.prod(x.shape) > 0


def _tensor(x):
    """Of numbers, or of bytes: as they are by gRPC, in base64 by HTTP."""
    if x.datatype != "BYTES":
        return tf.constant(NumpyCodec.decode_input(x))
    data = [base64.b64decode(y) if isinstance(y, str) else y for y in _data(x)]
    if len(data) != math.prod(x.shape):  # TensorFlow would repeat a single one
        raise ValueError(f"{len(data)} items of {x.name}, whose shape is {x.shape}")
    return tf.constant(data, tf.string, x.shape)


def _output(name, value):
    datatype = to_datatype(value.dtype)
    data = value.ravel().tolist()
    return ResponseOutput(name=name, shape=[*value.shape], datatype=datatype, data=data)


def _reason(error) -> str:
    """In one line; of a limit of the export, without what TensorFlow adds."""
    found = re.search(r"assertion failed: \[(.*?)\]", str(error))
    return found[1] if found else " ".join(str(error).split())[:500]
