"""Networks of ours: every file that Keras and the trainers write comes back."""

import pathlib
import zipfile

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D
from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D, I3D
from tests.convert.networks import numpy
from tests.convert.test_keras_resnet import randomize, weights

CLIP = (4, 48, 48, 3)


def build(architecture=I3D, depth=14, classes=7, **options):
    options = {"non_local": {"res3": [0]}, "width": 4} | options
    return architecture(depth, classes, CLIP, **options)


@pytest.fixture(scope="module")
def trained():
    model = randomize(build())
    model.compile(keras.optimizers.SGD(momentum=0.9), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def save(model, path):
    """In the format that the suffix says; returns what to load."""
    if path.suffix == ".keras":
        model.save(path)
    elif path.suffix == ".h5":
        (model.save_weights if ".weights" in path.name else model.save)(path)
    else:
        tf = pytest.importorskip("tensorflow")
        step = tf.Variable(7, dtype=tf.int64)
        values = {x.path: tf.Variable(numpy(x)) for x in model.weights}
        slots = {x.path: tf.Variable(numpy(x)) for x in model.optimizer.variables}
        tf.train.Checkpoint(global_step=step, model=values, optimizer=slots).write(
            str(path)
        )
    return str(path)


def assert_same(model, trained, but=()):
    expected = weights(trained)
    for path, value in weights(model).items():
        if not path.startswith(tuple(but)):
            np.testing.assert_array_equal(value, expected[path], path)


FILES = ("model.keras", "model.weights.h5", "model.h5", "ckpt-7")
# A tf.train checkpoint is read by TensorFlow in a process of its own.
TIERS = [pytest.param(x, marks=[pytest.mark.slow] * (x == "ckpt-7")) for x in FILES]


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_file_comes_back_to_the_bit(trained, name, tmp_path):
    path = save(trained, tmp_path / name)
    model = build()
    report = load_weights(model, path)
    assert report.ok and report.source == "keras_nonlocal"
    assert len(report.matched) == len(model.weights) and not report.new
    assert_same(model, trained)


@pytest.mark.parametrize("content", ["model", "dict"])
def test_models_and_their_weights_by_path_come_back(trained, content):
    model = build()
    content = trained if content == "model" else weights(trained)
    assert load_weights(model, content).ok
    assert_same(model, trained)


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_another_classifier_and_added_blocks_are_new(name, tmp_path):
    plain = randomize(build(non_local=None))
    plain.compile(keras.optimizers.SGD(), jit_compile=False)
    path = save(plain, tmp_path / name)
    model = build(classes=3)
    with pytest.raises(
        CheckpointError,
        match="num_classes=3, but .* num_classes=7\nskip_classifier=True leaves",
    ):
        load_weights(model, path)
    report = load_weights(model, path, skip_classifier=True)
    assert {x.split("/")[0] for x in report.new} == {"pred", "res3_0_nonlocal"}
    assert_same(model, plain, but=("pred", "res3_0_nonlocal"))
    features = [
        keras.Model(x.input, x.get_layer("res5").output) for x in (model, plain)
    ]
    x = np.random.default_rng(1).normal(size=(1, *CLIP)).astype("float32")
    np.testing.assert_array_equal(*[numpy(network(x)) for network in features])


def test_the_epsilon_is_the_models_own():
    options = {"non_local_options": {"normalization_options": {"epsilon": 0.5}}}
    model, trained = build(**options), randomize(build(**options))
    load_weights(model, trained)
    assert_same(model, trained)


def test_another_network_is_refused(trained):
    with pytest.raises(CheckpointError, match="Build the model with depth=14"):
        load_weights(build(depth=26), trained)
    with pytest.raises(CheckpointError, match="Build the model with width=4"):
        load_weights(build(width=8), trained)
    with pytest.raises(CheckpointError, match="Build the model with model='i3d'"):
        load_weights(build(C2D), trained)


def test_a_single_block_comes_back():
    blocks = [NonLocal3D(mode="concatenation", name=name) for name in "ab"]
    for block in blocks:
        block.build((None, 4, 8, 8, 6))
    randomize(blocks[0])
    state = {x.path.removeprefix("a/"): numpy(x) for x in blocks[0].weights}
    assert load_weights(blocks[1], state).ok
    for ours, theirs in zip(blocks[1].weights, blocks[0].weights, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


# === What the weights do not determine ===


@pytest.mark.parametrize(
    "content", ["model", pytest.param("file", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "options, message",
    [
        ({"convention": "pyslowfast"}, "pool1 pads height and width by 1, not 0"),
        ({"convention": "paper"}, "pool2 looks at 3 frames, not 2"),
        ({"stride_in_1x1": True}, "res3_0 strides in its first 1x1, not in the 3x3"),
        (
            {"non_local_options": {"mode": "dot_product"}},
            "res3_0_nonlocal has mode='dot_product', not 'embedded_gaussian'",
        ),
        ({"non_local_options": {"use_scale": False}}, "has use_scale=False, not True"),
        ({"non_local_options": {"scope": "space"}}, "scope='space', not 'spacetime'"),
        ({"non_local_options": {"group_size": 2}}, "has group_size=2, not None"),
    ],
)
def test_a_network_that_computes_otherwise_is_refused(
    trained, content, options, message, tmp_path
):
    content = trained if content == "model" else save(trained, tmp_path / "x.keras")
    model = build(**options)
    before = weights(model)
    with pytest.raises(CheckpointError, match=f"network +(.|\n)*{message}"):
        load_weights(model, content)
    assert all((x == before[path]).all() for path, x in weights(model).items())
    report = load_weights(model, content, strict=False)
    assert len(report.problems) >= 1
    assert_same(model, trained)


def test_new_blocks_and_other_stems_may_compute_as_they_like():
    plain = randomize(build(non_local=None))
    model = I3D(
        14,
        7,
        (16, 48, 48, 3),
        stem="32x2",
        width=4,
        non_local={"res3": [0]},
        non_local_options={"mode": "dot_product", "scope": "space"},
    )
    assert load_weights(model, plain).ok


@pytest.mark.parametrize("config", [7, [], {"config": {"layers": [1, {"config": 2}]}}])
def test_a_config_of_something_else_is_ignored(trained, config):
    assert load_weights(build(), {"model": weights(trained), "config": config}).ok


@pytest.mark.parametrize(
    "layer, change",
    [
        ("pool2", {"pool_size": [7, 1, 1]}),
        ("pool1", {"pad": 3}),
        ("conv1", {"strides": [5, 2, 2]}),
        ("conv1", {"kernel_size": "x"}),
        ("res3_0_branch2a", {"strides": None}),
        ("res3_0_nonlocal", {"mode": "x"}),
        ("res3_0_nonlocal", {"scope": ["space"]}),
        ("res3_0_nonlocal", {"group_size": "x"}),
    ],
)
def test_a_damaged_config_is_an_error(trained, layer, change):
    layers = trained.get_config()["layers"]
    for config in layers:
        if config["config"]["name"] == layer:
            config["config"].update(change)
    content = {"model": weights(trained), "config": {"config": {"layers": layers}}}
    with pytest.raises(CheckpointError, match="Its config is damaged"):
        load_weights(build(), content)


def test_a_config_made_to_exhaust_memory_is_refused(trained, tmp_path):
    path = pathlib.Path(save(trained, tmp_path / "x.keras"))
    with zipfile.ZipFile(path) as archive:
        weights_file = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "[" + "[]," * 2**23 + "[]]")
        archive.writestr("model.weights.h5", weights_file)
    with pytest.raises(CheckpointError, match="unfolds to more .*exhaust memory"):
        load_weights(build(), path)
