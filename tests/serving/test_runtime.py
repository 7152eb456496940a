"""examples/serving/runtime.py: requests of several clients in one batch.

MLServer runs in a process of its own: it and tritonclient, which other tests import,
define the same messages.
"""

import asyncio
import multiprocessing
import pathlib
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.export import write_warmup

pytestmark = pytest.mark.serving
FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "serving"
SHAPE = (2, 4, 4, 3)  # of a clip


class Sums(tf.Module):
    """Sums of pixels, and with how many clips each was summed; takes a while."""

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, "clips")])
    def __call__(self, clips):
        _, work = tf.while_loop(
            lambda i, _: i < 200,
            lambda i, x: (i + 1, tf.linalg.matmul(x, x)),
            (0, tf.zeros((300, 300))),
        )
        sums = tf.reduce_sum(tf.cast(clips, tf.float32), [1, 2, 3, 4]) + work[0, 0]
        together = tf.fill(tf.shape(clips)[:1], tf.shape(clips)[0])
        return {"sums": sums, "together": together}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Function that runs a coroutine with a loaded model, as `run` does."""
    folder, module = str(tmp_path_factory.mktemp("sums")), Sums()
    tf.saved_model.save(module, folder, {"serving_default": module.__call__})
    clips = np.zeros((1, *SHAPE), np.uint8)
    write_warmup(folder, {"serving_default": {"clips": clips}})
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield lambda ask: process.submit(run, folder, ask).result()


def run(folder, ask):
    """Runs the coroutine `ask(model)`."""
    from mlserver import ModelSettings
    from mlserver.context import model_context

    sys.path.insert(0, str(FOLDER))
    settings = ModelSettings(
        name="sums",
        implementation="runtime.SavedModel",
        parameters={
            "uri": folder,
            "extra": {"max_batch_size": 8, "max_batch_time": 0.3},
        },
        inputs=[{"name": "clips", "datatype": "UINT8", "shape": [-1, *SHAPE]}],
    )

    async def asked():
        model = settings.implementation(settings)
        await model.load()
        with model_context(settings):  # as for every request
            await ask(model)
        await model.unload()

    asyncio.run(asked())


def request(clips, datatype="UINT8", data=None):
    """A request as MLServer hands it on: with the headers of the client."""
    from mlserver.types import InferenceRequest
    from mlserver.utils import insert_headers

    data = clips.ravel().tolist() if data is None else data
    tensor = {"name": "clips", "datatype": datatype, "shape": [*clips.shape]}
    payload = InferenceRequest.model_validate({"inputs": [tensor | {"data": data}]})
    return insert_headers(payload, {"host": "127.0.0.1"})


def noise(count):
    shape = (count, 1, *SHAPE)
    return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def values(response):
    """`(sum, clips of the batch)` of a response about one clip."""
    sums, together = (x.data.root for x in response.outputs)
    return sums[0], together[0]


async def ask_8_at_once(model):
    clips = noise(8)
    found = await asyncio.gather(*(model.predict(request(x)) for x in clips))
    assert [values(x) for x in found] == [(x.sum(), 8) for x in clips]


def test_requests_at_the_same_time_are_one_batch(served):
    served(ask_8_at_once)


async def hang_up(model):
    clips = noise(4)
    tasks = [asyncio.create_task(model.predict(request(x))) for x in clips]
    await asyncio.sleep(0.05)  # all wait for the batch to fill
    tasks.pop(1).cancel()
    found = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    others = [clips[0], *clips[2:]]
    assert [values(x) for x in found] == [(x.sum(), 4) for x in others]


def test_a_client_that_hangs_up_does_not_end_the_batch(served):
    served(hang_up)


async def ask_wrongly(model):
    from mlserver.errors import MLServerError

    clips = noise(5)
    pixels = [x.ravel().tolist() for x in clips]
    payloads = [
        request(clips[0], data=pixels[0][:-5]),
        request(clips[1], data=pixels[1] + [0] * 5),
        request(clips[2], datatype="FP32"),
        request(clips[3], data=[300, *pixels[3][1:]]),
        request(clips[4]),
    ]
    tasks = [model.predict(x) for x in payloads]
    *wrong, right = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(x, MLServerError) for x in wrong), wrong
    assert values(right)[0] == clips[4].sum()


def test_wrong_requests_do_not_reach_the_pixels_of_others(served):
    served(ask_wrongly)


async def count_ticks(model):
    running, ticks = asyncio.create_task(model._run(request(noise(1)[0]))), 0
    while not running.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 10


def test_the_server_stays_awake_while_a_request_is_answered(served):
    served(count_ticks)
