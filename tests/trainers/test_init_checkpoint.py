"""`task.init_checkpoint` and freezing: what training starts from, and what stays."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_nonlocal.convert import convert_file, write_keras_file
from tests.convert import spelling
from tests.convert.files import samples
from tests.convert.networks import draw_state
from tests.convert.test_keras_resnet import randomize, weights
from trainers.core import checkpoints
from trainers.core.errors import UserError
from trainers.core.files import write_text
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.task import VideoClassificationTask

CLASSES = ("a", "b", "c")
SMALL = {"name": "c2d", "depth": 14, "width": 4, "convention": "pyslowfast"}


def make_task(path="", classes=CLASSES, model=(), clip=(), **options):
    config = VideoClassificationConfig()
    data = {"min_short_side": 48, "crop_size": 48}
    config.override(
        {
            "init_checkpoint": str(path),
            "model": SMALL | dict(model),
            "clip": {"num_frames": 4} | dict(clip),
            "train_data": data,
            "validation_data": data,
            **options,
        }
    )
    return VideoClassificationTask(config, class_names=classes)


def started(path, **options):
    task = make_task(path, **options)
    model = task.build_model()
    task.initialize(model)
    return model


def clips():
    return np.random.default_rng(1).normal(size=(2, 4, 48, 48, 3)).astype("float32")


@pytest.fixture(scope="module")
def trained():
    return randomize(make_task().build_model())


def save(model, path):
    """As the suffix says; without one, as the trainers do."""
    if path.suffix == ".keras":
        model.save(path)
    elif path.suffix == ".h5":
        model.save_weights(path)
    elif path.suffix == ".pyth":
        state = draw_state(model, spelling.pyslowfast)
        path.write_bytes(samples.torch_zip(state))
    else:
        optimizer = keras.optimizers.SGD(momentum=0.9, name="optimizer")
        optimizer.build(model.trainable_variables)
        step = tf.Variable(7, dtype=tf.int64)
        manager = tf.train.CheckpointManager(
            checkpoints.training_checkpoint(step, model, optimizer), str(path), 1
        )
        manager.save(7)
    return path


FILES = ("model.keras", "model.weights.h5", "model_dir")
SOME = [pytest.param(x, marks=[pytest.mark.slow] * (x.endswith("h5"))) for x in FILES]


@pytest.mark.parametrize("name", FILES)
def test_training_starts_from_any_file_of_ours(trained, name, tmp_path, capsys):
    path = save(trained, tmp_path / name)
    model = started(path)
    expected = weights(trained)
    for key, value in weights(model).items():
        np.testing.assert_array_equal(value, expected[key], key)
    log = capsys.readouterr().err
    assert f"Starting from {path}\nweights of keras_nonlocal" in log
    assert re.search(rf"matched +{len(expected)}\n", log) and log.count("\n") < 8


@pytest.mark.parametrize("name", SOME)
def test_other_classes_leave_the_classifier_new(trained, name, tmp_path):
    path = save(trained, tmp_path / name)
    message = "2 classes, but the weights need 3 classes\ntask.init_checkpoint_modules="
    with pytest.raises(UserError, match=f"{message}backbone leaves the classifier out"):
        started(path, classes=("x", "y"))
    task = make_task(path, classes=("x", "y"), init_checkpoint_modules="backbone")
    model = task.build_model()
    head = model.get_layer("pred").get_weights()
    task.initialize(model)
    for before, after in zip(head, model.get_layer("pred").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    expected = weights(trained)
    for key, value in weights(model).items():
        if not key.startswith("pred/"):
            np.testing.assert_array_equal(value, expected[key], key)


def test_networks_of_other_projects_are_a_start(trained, tmp_path, capsys):
    path = save(trained, tmp_path / "checkpoint.pyth")
    model = started(path)
    state = draw_state(model, spelling.pyslowfast)
    kernel = state["s1.pathway0_stem.conv.weight"].transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(model.get_layer("conv1").kernel.numpy(), kernel)
    assert "weights of pyslowfast" in capsys.readouterr().err
    message = r"task.init_checkpoint: .*checkpoint.pyth(.|\n)*pool1 pads(.|\n)*Set "
    with pytest.raises(UserError, match=f"{message}task.model.convention=pyslowfast"):
        started(path, model={"convention": "video_nonlocal_net"})


def test_what_an_error_advises_are_keys_of_the_config(trained, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    with pytest.raises(UserError, match="Set task.model.depth=14") as caught:
        started(path, model={"depth": 26})
    assert "strict" not in str(caught.value)
    with pytest.raises(UserError, match="No checkpoint at .*gone"):
        started(tmp_path / "gone")
    (tmp_path / "text.keras").write_text("not weights")
    with pytest.raises(UserError, match="task.init_checkpoint: .*text.keras"):
        started(tmp_path / "text.keras")


def test_paths_are_as_they_were_given(trained, tmp_path):
    folder = tmp_path / "depth=14 stem=`width`"
    folder.mkdir()
    path = save(trained, folder / "model.keras")
    with pytest.raises(UserError, match="Set task.model.depth=14") as caught:
        started(path, model={"depth": 26})
    assert str(caught.value).count(str(path)) == 1
    assert str(caught.value).count("model.keras") == 1
    with pytest.raises(UserError, match="Set task.model.depth=14") as caught:
        started(save(trained, folder / "d"), model={"depth": 26})
    assert str(caught.value).count(f"{folder}/d: ") == 1


def test_a_folder_of_weights_names_them(trained, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    message = "Expected the model dir.*pth.*here are"
    with pytest.raises(UserError, match=message) as error:
        started(tmp_path)
    assert str(path) in str(error.value)


def test_remote_files_are_to_be_copied(trained, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    tf.io.gfile.makedirs("ram://weights")
    tf.io.gfile.copy(str(path), "ram://weights/model.keras", overwrite=True)
    with pytest.raises(UserError, match="ram://weights/model.keras, .*copy the file"):
        started("ram://weights/model.keras")


@pytest.mark.parametrize("name", SOME)
def test_added_blocks_leave_the_outputs_as_they_were(trained, name, tmp_path, capsys):
    path = save(trained, tmp_path / name)
    model = started(path, model={"non_local": {"res3": [0], "res4": [0]}})
    np.testing.assert_array_equal(model(clips()).numpy(), trained(clips()).numpy())
    log = capsys.readouterr().err
    assert "checked to change nothing: res3_0_nonlocal, res4_0_nonlocal" in log


def test_added_blocks_that_change_the_network_are_refused(trained, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    options = {"normalization_options": {"gamma_initializer": "ones"}}
    model = {"non_local": {"res3": [0]}, "non_local_options": options}
    with pytest.raises(UserError, match="res3_0_nonlocal changes what the network"):
        started(path, model=model)


@pytest.mark.parametrize("name", ["model.keras", "model_dir", "model_dir/best"])
def test_a_network_that_computes_otherwise_is_refused(trained, name, tmp_path):
    path = save(trained, tmp_path / name)
    saved = {"model": SMALL | {"stride_in_1x1": False}}
    if name != "model.keras":
        write_text(tmp_path / "model_dir/params.yaml", yaml.safe_dump({"task": saved}))
    started(path)
    for key, value in (("convention", "mmaction2"), ("stride_in_1x1", True)):
        with pytest.raises(UserError, match=f"task.model.{key}"):
            started(path, model={key: value})


# === Pixels ===

OTHER_CLIP = {"mean": [0, 0, 0], "std": [1, 1, 1]}
GREY = r"task.clip.mean=\[114.75,114.75,114.75\]"
GREY_STD = r"task.clip.std=\[57.375,57.375,57.375\]"


def saved_with_pixels(trained, kind, tmp_path):
    """Weights of which it is known that they need PySlowFast's pixels."""
    if kind == "pyslowfast":
        return save(trained, tmp_path / "checkpoint.pyth")
    if kind == "model_dir":
        clip = {"mean": [114.75] * 3, "std": [57.375] * 3}
        path = save(trained, tmp_path / "run")
        write_text(path / "params.yaml", yaml.safe_dump({"task": {"clip": clip}}))
        return path
    path = tmp_path / "converted.keras"
    source = save(trained, tmp_path / "checkpoint.pyth")
    convert_file(source, path, clip=(4, 48, 48))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("pyslowfast", marks=pytest.mark.slow),
        "model_dir",
        pytest.param("converted", marks=pytest.mark.slow),
    ],
)
def test_pixels_are_those_that_the_weights_need(trained, kind, tmp_path, capsys):
    path = saved_with_pixels(trained, kind, tmp_path)
    rounded = {"mean": [114.7501] * 3, "std": [57.375] * 3}
    started(path)
    started(path, clip=rounded)
    assert "normalised differently" not in capsys.readouterr().err
    for clip in (OTHER_CLIP, rounded | {"std": [57.375, 57.12, 57.375]}):
        with pytest.raises(UserError, match=f"Set {GREY} and {GREY_STD};"):
            started(path, clip=clip)
    started(path, clip=OTHER_CLIP, init_checkpoint_pixels="any")
    log = capsys.readouterr().err
    assert re.search(rf"! .*\(mean=\[0,0,0\], std=.*; theirs are {GREY}", log)


def test_converted_networks_of_bgr_see_rgb(trained, tmp_path, capsys):
    pixels = {"color": "BGR", "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}
    metadata = {"architecture": {}, "preprocessing": pixels}
    write_keras_file(trained, tmp_path / "bgr.keras", metadata)
    model = started(tmp_path / "bgr.keras", clip={"mean": [3, 2, 1], "std": [6, 5, 4]})
    assert "conv1 flipped from BGR to RGB" in capsys.readouterr().err
    turned = trained.get_layer("conv1").kernel.numpy()[..., ::-1, :]
    np.testing.assert_array_equal(model.get_layer("conv1").kernel.numpy(), turned)
    with pytest.raises(UserError, match=r"mean=\[3,2,1\] and task.clip.std=\[6,5,4\]"):
        started(tmp_path / "bgr.keras")


def test_damaged_pixels_are_reported(trained, tmp_path):
    pixels = {"color": "RGB", "mean": "grey", "std": [1.0, 1.0]}
    metadata = {"architecture": {}, "preprocessing": pixels}
    write_keras_file(trained, tmp_path / "bad.keras", metadata)
    with pytest.raises(UserError, match="bad.keras.*'grey'.* Expected"):
        started(tmp_path / "bad.keras")
    clip = {"mean": [114.75, 114.75], "std": [57.375] * 3}
    path = save(trained, tmp_path / "run")
    write_text(path / "params.yaml", yaml.safe_dump({"task": {"clip": clip}}))
    message = r"run was trained on pixels of mean=\[114.75, 114.75\]. Expected three"
    with pytest.raises(UserError, match=message):
        started(path)


def test_pixels_are_the_same_or_any():
    with pytest.raises(UserError, match="init_checkpoint_pixels is 'all'"):
        make_task(init_checkpoint_pixels="all")


# === keras.applications ===


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    model = keras.applications.ResNet50(weights=None, input_shape=(48, 48, 3))
    path = tmp_path_factory.mktemp("resnet") / "resnet50.weights.h5"
    randomize(model).save_weights(path)
    return model, path


KERAS_CLIP = {"mean": [123.68, 116.779, 103.939], "std": [1.0, 1.0, 1.0]}


@pytest.mark.slow
def test_resnets_of_keras_see_rgb(resnet50):
    image_model, path = resnet50
    options = {"depth": 50, "width": 64, "stride_in_1x1": True}
    model = started(path, model=options, clip=KERAS_CLIP)
    names = ("res5", "conv5_block3_out")
    features = [
        keras.Model(x.input, x.get_layer(name).output)
        for x, name in zip((model, image_model), names, strict=True)
    ]
    bgr = np.random.default_rng(1).normal(0, 50, (1, 48, 48, 3)).astype("float32")
    clip = np.repeat(bgr[:, None, ..., ::-1], 2, axis=1)
    ours, theirs = features[0](clip).numpy()[:, 0], features[1](bgr).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * theirs.max())


@pytest.mark.slow
def test_resnets_of_keras_need_their_pixels_and_strides(resnet50):
    options = {"depth": 50, "width": 64}
    with pytest.raises(UserError, match="Set task.model.stride_in_1x1=True"):
        started(resnet50[1], model=options, clip=KERAS_CLIP)
    with pytest.raises(UserError, match=r"Set task.clip.mean=\[123.68,.*std=\[1,1,1\]"):
        started(resnet50[1], model=options | {"stride_in_1x1": True})


# === Freezing ===


def steps(task, model, num_steps=2):
    """What training changes: the layers' paths, by a few steps of SGD."""
    before = weights(model)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    for _ in range(num_steps):
        with tf.GradientTape() as tape:
            logits = model(clips(), training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], logits)
            )
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]))
    after = weights(model)
    return {path for path in before if (before[path] != after[path]).any()}


@pytest.mark.parametrize("options", [{"freeze_backbone": True}, {}])
def test_a_frozen_backbone_trains_blocks_and_classifier(trained, options, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    task = make_task(path, model={"non_local": {"res3": [0]}}, **options)
    model = task.build_model()
    task.initialize(model)
    changed = {path.split("/")[0] for path in steps(task, model)}
    assert {"res3_0_nonlocal", "pred"} <= changed
    assert ("conv1" in changed, "conv1_bn" in changed) == (not options, not options)
    assert len(changed) == 2 or not options


def test_frozen_batch_norm_keeps_statistics_and_scales(trained, tmp_path):
    path = save(trained, tmp_path / "model.keras")
    task = make_task(path, model={"non_local": {"res3": [0]}}, freeze_batch_norm=True)
    model = task.build_model()
    task.initialize(model)
    changed = steps(task, model)
    assert {"conv1/kernel", "res3_0_nonlocal/norm/gamma", "pred/bias"} <= changed
    assert not [path for path in changed if "_bn/" in path]


@pytest.mark.parametrize("name", ["freeze_backbone", "freeze_batch_norm"])
def test_freezing_needs_a_start(name):
    with pytest.raises(UserError, match=f"task.{name} .* set task.init_checkpoint"):
        make_task(**{name: True})


def test_an_unknown_source_is_named():
    with pytest.raises(
        UserError, match="init_checkpoint_source is 'slowfast'. Did you"
    ):
        make_task(init_checkpoint_source="slowfast")
