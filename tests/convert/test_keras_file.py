"""`.keras` files with metadata: saved again by Keras, or damaged elsewhere."""

import io
import json
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_nonlocal.convert import (
    CheckpointError,
    Pixels,
    convert_file,
    load_weights,
    read_metadata,
    write_keras_file,
)
from keras_nonlocal.convert.keras_file import ConvertedModel
from keras_nonlocal.models import describe, fold_batch_norm, fully_convolutional
from tests.convert.files.limits import limited
from tests.convert.files_of_weights import BLOCKS, build, states, write
from tests.convert.networks import numpy

METADATA = {"class_names": ["a", "b"]}
CONFIG = json.dumps({"config": {"metadata": METADATA}}).encode()
CLIP = (8, 64, 64)


# === Metadata stay with the network ===


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    source = write(states()["pyslowfast"], folder / "pyslowfast")
    names = [f"class {i}" for i in "abcdefg"]
    convert_file(source, folder / "a.keras", clip=CLIP, class_names=names)
    return folder / "a.keras"


def clips(count=1):
    return np.random.default_rng(0).normal(size=(count, *CLIP, 3)).astype("float32")


def test_loaded_models_have_their_metadata(converted):
    model = keras.models.load_model(converted)
    assert model.metadata == read_metadata(converted)
    assert model.metadata["class_names"][6] == "class g"
    assert model.metadata["preprocessing"]["mean"] == [114.75] * 3


def test_metadata_survive_training_and_saving_by_keras(converted, tmp_path):
    model = keras.models.load_model(converted)
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    model.fit(clips(2), np.zeros((2, 7)), verbose=0)
    model.save(tmp_path / "trained.keras")
    assert read_metadata(tmp_path / "trained.keras") == read_metadata(converted)
    again = keras.models.load_model(tmp_path / "trained.keras")
    assert again.metadata == model.metadata
    np.testing.assert_array_equal(
        numpy(again(clips(), training=False)), numpy(model(clips(), training=False))
    )
    report = load_weights(build(convention="pyslowfast"), tmp_path / "trained.keras")
    assert report.pixels == Pixels("RGB", (114.75,) * 3, (57.375,) * 3)
    assert load_weights(build(convention="pyslowfast"), again).pixels == report.pixels


def test_names_given_once_come_back_when_converted_again(converted, tmp_path):
    keras.models.load_model(converted).save(tmp_path / "saved.keras")
    convert_file(tmp_path / "saved.keras", tmp_path / "again.keras", clip=CLIP)
    first, second = (read_metadata(x) for x in (converted, tmp_path / "again.keras"))
    for key in ("class_names", "preprocessing", "architecture"):
        assert first[key] == second[key]


def test_metadata_change_nothing_else(tmp_path):
    network = build(convention="pyslowfast")
    model = write_keras_file(network, tmp_path / "a.keras", METADATA)
    assert [x.path for x in model.weights] == [x.path for x in network.weights]
    assert [x.name for x in model.layers] == [x.name for x in network.layers]
    assert describe(model) == describe(network)
    expected = numpy(network(clips(), training=False))
    for same in (model, fold_batch_norm(model)):
        logits = numpy(same(clips(), training=False))
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    tiled = [numpy(fully_convolutional(x)(clips())) for x in (model, network)]
    np.testing.assert_array_equal(*tiled)
    clone = keras.models.clone_model(model)
    assert [x.path for x in clone.weights] == [x.path for x in network.weights]


def test_a_converted_model_without_metadata_saves_none(tmp_path):
    network = build()
    model = ConvertedModel(network.input, network.output)
    model.save(tmp_path / "a.keras")
    assert read_metadata(tmp_path / "a.keras") == {}
    assert keras.models.load_model(tmp_path / "a.keras").metadata is None


# === Damaged files ===


def archive(path, config=CONFIG, compression=zipfile.ZIP_DEFLATED):
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/pred/vars/0"] = np.ones((2, 2))
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", weights.getvalue())
        file.writestr("config.json", config)
    return path


def change(path, field, value):
    """Changes a field of two bytes of the last file in the table."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.rindex(b"PK\1\2") + field, value)
    path.write_bytes(data)


def damage(path):
    data = bytearray(path.read_bytes())
    data[data.rindex(b"config.json", 0, data.index(b"PK\1\2")) + 20] ^= 0xFF
    path.write_bytes(data)


DAMAGES = {
    "encrypted": lambda path: change(path, 8, 1),
    "of a later version": lambda path: change(path, 6, 99),
    "compressed in a rare way": lambda path: change(path, 10, 99),
    "another byte": damage,
    "deep": lambda path: archive(path, b'{"a":' * 10**5),
    "not JSON": lambda path: archive(path, b"x"),
    "not text": lambda path: archive(path, b"\xff\xfe"),
    "of many lists": lambda path: archive(path, b"[" + b"[]," * 10**7 + b"[]]"),
    "long": lambda path: archive(path, bytes(3 * 10**8)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[pytest.mark.slow] * (x == "of many lists"))
        for x in DAMAGES
    ],
)
def test_damaged_configs_end_in_an_error(name, tmp_path):
    path = archive(tmp_path / "x.keras")
    assert read_metadata(path) == METADATA
    DAMAGES[name](path)
    with limited(seconds=20), pytest.raises(CheckpointError, match=r"x\.keras"):
        read_metadata(path)


@pytest.mark.parametrize(
    "config", [b"[1]", b"7", b'{"config": 3}', b'{"config": {"metadata": null}}']
)
def test_configs_without_metadata(config, tmp_path):
    assert read_metadata(archive(tmp_path / "x.keras", config)) == {}


def test_metadata_of_other_files(tmp_path):
    path = tmp_path / "dense.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    assert read_metadata(path) == {}
    with pytest.raises(CheckpointError, match="not a .keras file"):
        read_metadata(write({"pred_b": np.ones(2)}, tmp_path / "weights.pkl"))
    with pytest.raises(CheckpointError, match="no such file"):
        read_metadata(tmp_path / "nowhere")


def test_pixels_are_checked():
    for change in (
        {"color": ["RGB"]},
        {"mean": "grey"},
        {"mean": [1.0, 2.0]},
        {"std": [1.0, 2.0, 0.0]},
        {"std": [1.0, 2.0, float("nan")]},
    ):
        with pytest.raises(ValueError, match=next(iter(change))):
            Pixels(**{"color": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1]} | change)


def test_blocks_come_back_as_they_were(converted):
    assert (
        keras.models.load_model(converted).metadata["architecture"]["non_local"]
        == BLOCKS
    )
