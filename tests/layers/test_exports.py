"""Blocks exported by Keras from JAX and PyTorch compute the equations."""

import keras
import numpy as np
import pytest

from tests.layers.blocks import SHAPES, expected_output, functional, random_block

BACKEND = keras.backend.backend()
FORMS = [
    ("gaussian", "auto"),
    ("embedded_gaussian", "dense"),
    ("embedded_gaussian", "chunked"),
    ("dot_product", "linear"),
    ("concatenation", "auto"),
    ("concatenation", "sorted"),
]
SHAPE = SHAPES[3][1:]


def exported(path, mode, algorithm, batch, **options):
    """The layer, written as a model for clips of `SHAPE`."""
    layer = random_block(mode=mode, algorithm=algorithm)
    spec = keras.InputSpec(shape=(batch, *SHAPE), dtype="float32", name="x")
    model = functional(layer, SHAPE)
    model.export(path, input_signature=[spec], verbose=False, **options)
    return layer


def assert_computes(layer, call, batch):
    x = np.random.default_rng(batch).normal(size=(batch, *SHAPE)).astype("float32")
    expected = expected_output(layer, x)
    np.testing.assert_allclose(np.asarray(call(x)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "jax", reason="exports from JAX")
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_saved_models_from_jax_take_any_batch(mode, algorithm, tmp_path):
    import tensorflow as tf

    layer = exported(str(tmp_path), mode, algorithm, None, format="tf_saved_model")
    loaded = tf.saved_model.load(str(tmp_path))
    for batch in (1, 3):
        assert_computes(layer, loaded.serve, batch)


@pytest.mark.backends
@pytest.mark.filterwarnings("default")  # PyTorch's exporter has some
@pytest.mark.skipif(BACKEND != "torch", reason="exports from PyTorch")
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_onnx_from_torch(mode, algorithm, tmp_path):
    import onnxruntime

    path = str(tmp_path / "network.onnx")
    layer = exported(path, mode, algorithm, 1, format="onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert_computes(layer, lambda x: session.run(None, {"x": x})[0], 1)
