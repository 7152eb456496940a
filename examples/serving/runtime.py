"""Runs an export of trainers/video.py in MLServer (KServe v2, HTTP and gRPC)."""

import base64
import types

import tensorflow as tf
from mlserver import MLModel
from mlserver.batching import AdaptiveBatcher
from mlserver.codecs import NumpyCodec
from mlserver.codecs.numpy import to_datatype
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse, ResponseOutput


class SavedModel(MLModel):
    async def load(self):
        self._network = tf.saved_model.load(self.settings.parameters.uri)
        batching = types.SimpleNamespace(**self.settings.parameters.extra)
        held = types.SimpleNamespace(settings=batching, predict=self._run)
        self._batcher = AdaptiveBatcher(held)
        return True

    async def predict(self, payload):
        # MLServer merges whatever it is given: only clips of the declared shape may be,
        # and if one of a batch is refused, each is asked alone.
        usual = [x.shape[1:] for x in self.inputs[:1]]
        if (
            payload.parameters is None
            and [x.shape[1:] for x in payload.inputs] == usual
        ):
            try:
                return await self._batcher.predict(payload)
            except Exception:
                pass
        return await self._run(payload)

    async def _run(self, payload):
        signature = getattr(payload.parameters, "signature", "serving_default")
        try:
            inputs = {x.name: _tensor(x) for x in payload.inputs}
            outputs = self._network.signatures[signature](**inputs)
        except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
            raise MLServerError(f"{type(error).__name__}: {error}"[:500]) from error
        outputs = [_output(name, x.numpy()) for name, x in outputs.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _tensor(x):
    """Of numbers, or of bytes: as they are by gRPC, in base64 by HTTP."""
    if x.datatype != "BYTES":
        return tf.constant(NumpyCodec.decode_input(x))
    data = getattr(x.data, "root", x.data)
    data = [base64.b64decode(item) if isinstance(item, str) else item for item in data]
    return tf.constant(data, tf.string, x.shape)


def _output(name, value):
    datatype = to_datatype(value.dtype)
    data = value.ravel().tolist()
    return ResponseOutput(name=name, shape=[*value.shape], datatype=datatype, data=data)
