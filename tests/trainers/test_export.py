"""Exported networks: the same numbers as the Keras model, without Keras."""

import collections
import json
import os
import pathlib
import struct
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager import context

from keras_nonlocal.models import C2D
from keras_nonlocal.visualize import attention_maps
from trainers.core import files
from trainers.core.errors import UserError
from trainers.video_classification import attention_rows, export, serving
from trainers.video_classification.configs import ExportConfig
from trainers.video_classification.data import resize_and_center_crop, write_video
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.scoring import inference_form

ROOT = pathlib.Path(__file__).parents[2]
CLASSES = ("açaí bowl", "juggling", "yawning")
SIGNATURES = ["attention", "features", "jpeg", "serving_default"]
NUM_FRAMES, SHORT_SIDE, CROP = 4, 36, 32


def make_task(precision=None, constants=False, limits=None, **data):
    config = types.SimpleNamespace(
        clip=ClipConfig(
            num_frames=NUM_FRAMES,
            temporal_stride=2,
            mean=(110.0, 115.0, 120.0),
            std=(50.0, 55.0, 60.0),
        ),
        train_data=DataConfig(crop_size=CROP),
        validation_data=DataConfig(
            min_short_side=SHORT_SIDE, crop_size=CROP, is_training=False, **data
        ),
        export=ExportConfig(precision=precision, constants=constants, **limits or {}),
    )
    return types.SimpleNamespace(task_config=config, class_names=CLASSES)


def make_model(non_local=None, **options):
    """A small C2D whose every weight matters, those of its blocks included."""
    shape = (None, None, None, 3)
    model = C2D(14, 3, shape, width=4, non_local=non_local, **options)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(rng.uniform(-0.1, 0.1, variable.shape))
    return model


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)


def keras_logits(model, crops):
    """By hand: normalise what is already cropped."""
    clips = (np.float32(crops) - (110, 115, 120)) / (50, 55, 60)
    return np.asarray(model(np.float32(clips), training=False))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make_model(non_local={"res3": [0]})


@pytest.fixture(scope="module")
def export_dir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "served"
    task = make_task(limits={"max_frame_pixels": 10_000})
    export.export_saved_model(task, model, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(export_dir):
    return tf.saved_model.load(str(export_dir / "1"))


def call(loaded, name="serving_default", **inputs):
    outputs = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
    return {key: value.numpy() for key, value in outputs.items()}


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_clips_are_cropped_centrally_and_normalised(loaded, model):
    clips = noise(2, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE + 20)
    expected = keras_logits(model, clips[:, :, 2 : 2 + CROP, 12 : 12 + CROP])
    outputs = call(loaded, clips=clips)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the two clips do differ
    assert_close(outputs["logits"], expected)
    assert_close(outputs["probabilities"], keras.ops.softmax(expected))


def test_clips_of_any_size_are_scaled_to_the_short_side(loaded, model):
    # On a ramp, halving by any antialiased method is the mean of neighbours.
    ramp = np.linspace(0, 250, 2 * SHORT_SIDE)[:, None, None] * np.ones((1, 80, 3))
    clip = np.broadcast_to(np.uint8(ramp), (1, NUM_FRAMES, *ramp.shape))
    small = clip.reshape(1, NUM_FRAMES, SHORT_SIDE, 2, 40, 2, 3).mean((3, 5))
    expected = keras_logits(model, small[:, :, 2 : 2 + CROP, 4 : 4 + CROP])
    actual = call(loaded, clips=clip)["logits"]
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_short_clips_are_repeated(loaded, model):
    clips = noise(1, 3, SHORT_SIDE, SHORT_SIDE)
    crops = clips[:, [0, 1, 2, 0], 2 : 2 + CROP, 2 : 2 + CROP]
    assert_close(call(loaded, clips=clips)["logits"], keras_logits(model, crops))


def test_all_frames_of_long_clips_are_used(loaded, model):
    clips = noise(1, 7, SHORT_SIDE, SHORT_SIDE)
    expected = keras_logits(model, clips[:, :, 2 : 2 + CROP, 2 : 2 + CROP])
    assert_close(call(loaded, clips=clips)["logits"], expected)


def test_clips_without_frames_are_refused(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one frame"):
        call(loaded, clips=noise(1, 0, SHORT_SIDE, SHORT_SIDE))


def test_jpeg_frames_may_differ_in_size(loaded, model):
    sizes = [(36, 36), (36, 60), (50, 36), (36, 36)]
    frames = [tf.io.encode_jpeg(noise(*size)).numpy() for size in sizes]
    crops = []
    for frame, (height, width) in zip(frames, sizes, strict=True):
        top, left = (height - CROP) // 2, (width - CROP) // 2
        image = tf.io.decode_jpeg(frame).numpy()
        crops.append(image[top : top + CROP, left : left + CROP])
    outputs = call(loaded, "jpeg", frames=[frames])
    assert_close(outputs["logits"], keras_logits(model, np.stack(crops)[None]))


def test_the_best_classes_are_given_by_name(loaded):
    outputs = call(loaded, clips=noise(2, NUM_FRAMES, 40, 50))
    order = np.argsort(-outputs["probabilities"], axis=-1)
    names = [[CLASSES[k] for k in row] for row in order]
    assert [[x.decode() for x in row] for row in outputs["classes"]] == names
    expected = np.take_along_axis(outputs["probabilities"], order, axis=-1)
    np.testing.assert_array_equal(outputs["scores"], expected)


def test_features_are_what_the_classifier_receives(loaded, model):
    clips = noise(2, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE)
    features = call(loaded, "features", clips=clips)["features"]
    crops = clips[:, :, 2 : 2 + CROP, 2 : 2 + CROP]
    kernel, bias = model.get_layer("pred").get_weights()
    assert_close(features @ kernel + bias, keras_logits(model, crops))
    assert features.shape == (2, kernel.shape[0])


BLOCK = "res3_0_nonlocal"


def test_attention_is_in_coordinates_of_the_frames_that_were_sent(loaded, model):
    small = noise(1, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE + 20)
    large = small.repeat(2, axis=2).repeat(2, axis=3)
    position = np.float32([[2, 17, 31]])
    found = call(loaded, "attention", clips=small, positions=position)
    crops = (small[:, :, 2:34, 12:44] - np.float32([110, 115, 120])) / (50, 55, 60)
    maps = attention_maps(model, np.float32(crops), BLOCK, [(2, 15, 19)])
    assert_close(found[BLOCK], maps.scores)
    assert np.ptp(maps.scores) > 1e-4  # the weights do differ
    corner = np.array([0, 2, 12])
    assert_close(found[f"{BLOCK}_keys"][0], maps.keys.centres + corner)
    assert_close(found[f"{BLOCK}_queries"], maps.queries.centres[maps.rows] + corner)
    position = position * (1, 2, 2) + (0, 0.5, 0.5)
    twice = call(loaded, "attention", clips=large, positions=np.float32(position))
    keys = found[f"{BLOCK}_keys"] * (1, 2, 2) + (0, 0.5, 0.5)
    assert_close(twice[f"{BLOCK}_keys"], keys)


def test_attention_of_a_short_clip_names_frames_that_it_has(loaded):
    clips = noise(1, 2, SHORT_SIDE, SHORT_SIDE)  # becomes frames 0, 1, 0, 1
    found = call(loaded, "attention", clips=clips, positions=np.float32([[1, 9, 9]]))
    # Between the frames of each pair: at 0.5 and 2.5.
    assert set(found[f"{BLOCK}_keys"][..., 0].flat) == {0.5}


@pytest.mark.parametrize(
    "options", [{"scope": "time"}, {"scope": "space"}, {"group_size": 2}], ids=str
)
def test_attention_within_groups_is_that_of_the_whole_map(options):
    options = {**options, "intermediate_channels": 4}
    model = make_model(non_local={"res2": [0]}, non_local_options=options)
    module = serving.ServingModule(model, make_task().task_config, CLASSES)
    assert "attention" in module.signatures
    clips = noise(2, NUM_FRAMES, CROP, CROP)
    positions = [(0, 1, 2), (3, 30, 9), (2, 17, 31)]
    name = "res2_0_nonlocal"
    crops = (clips - np.float32([110, 115, 120])) / (50, 55, 60)
    maps = attention_maps(model, np.float32(crops), name)
    attend = attention_rows.AttentionRows(model, [name])
    rows = attend(np.float32(crops), np.float32(positions))[name]
    for i, position in enumerate(positions):
        query = maps.queries.nearest(*position)
        assert_close(rows.queries[i], maps.queries.centres[query])
        expected = maps.scores[:, query]
        columns = [maps.keys.nearest(*key) for key in rows.keys[i].numpy()]
        assert_close(rows.scores[:, i], expected[:, columns])
        np.testing.assert_allclose(expected[:, columns].sum(-1), 1, rtol=1e-4)


def test_blocks_of_attention_can_be_chosen():
    model = make_model(non_local={"res2": [0], "res3": [0]})
    config = make_task(limits={"attention_blocks": [BLOCK]}).task_config
    module = serving.ServingModule(model, config, CLASSES)
    outputs = module.attention.get_concrete_function().structured_outputs
    assert set(outputs) == {BLOCK, f"{BLOCK}_keys", f"{BLOCK}_queries"}
    config.export.attention_blocks = ["res3_1_nonlocal"]
    with pytest.raises(UserError, match="attention_blocks.*mean 'res3_0_nonlocal'"):
        serving.ServingModule(model, config, CLASSES)
    config.export.attention_blocks = []
    assert "attention" not in serving.ServingModule(model, config, CLASSES).signatures


@pytest.mark.parametrize(
    ("positions", "received"),
    [
        ([[0, 0, 0]] * 65, "has 65 positions.*expected 1 to 64 .*max_positions"),
        (np.zeros((0, 3)), "has 0 positions"),
        ([[0, 0, 55.6]], "lies outside the clip"),
        ([[-1, 0, 0]], "lies outside the clip"),
        ([[0, np.nan, 0]], "lies outside the clip"),
    ],
)
def test_positions_that_cannot_be_answered_are_refused(loaded, positions, received):
    clips = noise(1, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE + 20)
    with pytest.raises(tf.errors.InvalidArgumentError, match=received):
        call(loaded, "attention", clips=clips, positions=np.float32(positions))


def test_metadata_say_where_the_network_comes_from(export_dir):
    assets = export_dir / "1" / "assets"
    about = json.loads((assets / "metadata.json").read_text(encoding="utf-8"))
    assert about["classes"] == list(CLASSES)
    assert about["signatures"] == SIGNATURES
    assert about["preprocessing"]["crop_size"] == CROP
    assert about["versions"]["tensorflow"] == tf.__version__
    card = (assets / "model_card.md").read_text(encoding="utf-8")
    assert f"| Parameters | {about['parameters']:,} |" in card
    assert "2 apart in the video; the short side is scaled to 36 pixels" in card


def test_assets_have_what_a_client_needs(export_dir):
    assets = export_dir / "1" / "assets"
    names = (assets / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(names) == CLASSES
    assert json.loads((assets / "preprocessing.json").read_text()) == {
        "color": "RGB",
        "num_frames": 4,
        "temporal_stride": 2,
        "fps": None,
        "short_side": 36,
        "crop_size": 32,
        "mean": [110.0, 115.0, 120.0],
        "std": [50.0, 55.0, 60.0],
        "activation": "softmax",
    }


LIMITS = {
    "max_frames": 8,
    "max_request_frames": 99,
    "max_frame_bytes": 50_000,
    "max_frame_pixels": 40_000,
    "max_request_pixels": 100_000,
    "max_positions": 6,
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    task = make_task(limits=LIMITS)
    return pathlib.Path(export.export_saved_model(task, make_small_model(), folder))


@pytest.fixture(scope="module")
def loaded_limited(limited):
    return tf.saved_model.load(str(limited))


def jpeg(height, width, claimed=None):
    """A JPEG frame; its header may claim other sizes, (height, width)."""
    frame = tf.io.encode_jpeg(np.zeros((height, width, 3), np.uint8)).numpy()
    if claimed is None:
        return frame
    start = frame.index(b"\xff\xc0") + 5  # the sizes in "start of frame"
    return frame[:start] + struct.pack(">HH", *claimed) + frame[start + 4 :]


@pytest.mark.parametrize(
    ("frames", "received"),
    [
        ([jpeg(40, 40)] * 9, "has 9 frames; expected 1 to 8 .task.export.max_frames"),
        ([jpeg(300, 300)], "has 300 x 300 pixels.*1 to 40000 .*max_frame_pixels"),
        ([jpeg(2, 2, claimed=(65000, 65000))], "65000 x 65000 pixels"),
        ([jpeg(9, 9), jpeg(9, 9) + bytes(50_000)], "max_frame_bytes"),
        ([jpeg(180, 200)] * 3, "have 108000 pixels; expected 1 to 100000"),
        ([tf.io.encode_png(np.zeros((40, 40, 3), np.uint8)).numpy()], "not a JPEG"),
        ([b""], "not a JPEG"),
        ([jpeg(40, 40)[:30]], "Invalid JPEG"),
    ],
)
def test_jpeg_frames_above_a_limit_are_refused(loaded_limited, frames, received):
    with pytest.raises(tf.errors.InvalidArgumentError, match=received):
        call(loaded_limited, "jpeg", frames=[frames])
    logits = call(loaded_limited, "jpeg", frames=[[jpeg(40, 40)]])["logits"]
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("shape", "received"),
    [
        ((1, 9, 40, 40), "has 9 frames; expected 1 to 8 .task.export.max_frames"),
        ((1, 1, 2, 20_001), "has 2 x 20001 pixels.*expected 1 to 40000"),
        ((1, 1, 0, 40), "has 0 x 40 pixels.*expected 1 to 40000"),
        ((1, 3, 180, 200), "have 108000 pixels; expected 1 to 100000"),
        ((17, 6, 1, 1), "have 102 frames"),
        ((25, 1, 1, 1), "have 100 frames; expected 1 to 99"),  # each is repeated
        ((8, 2, 100, 200), "have 320000 pixels"),
        ((14, 7, 1, 1), "have 100352 pixels"),  # each becomes a crop of 1024
    ],
)
def test_clips_above_a_limit_are_refused(loaded_limited, shape, received):
    with pytest.raises(tf.errors.InvalidArgumentError, match=received):
        call(loaded_limited, clips=noise(*shape))
    logits = call(loaded_limited, clips=noise(1, 8, 100, 125))["logits"]
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("serving_default", {"clips": np.zeros((0, 8, 120, 160, 3), np.uint8)}),
        ("jpeg", {"frames": np.zeros((0, 8), "S")}),
    ],
)
def test_requests_without_clips_are_refused(loaded, name, inputs):
    with pytest.raises(tf.errors.InvalidArgumentError, match="request has no clips"):
        call(loaded, name, **inputs)


def test_limits_are_written_beside_the_network(limited):
    assert report_of(limited)["limits"] == LIMITS


def test_limits_that_refuse_the_clips_of_training_are_refused(tmp_path):
    task = make_task(limits={"max_frames": NUM_FRAMES - 1})
    with pytest.raises(UserError, match="has 4 frames; .*task.export.max_frames"):
        export.export_saved_model(task, make_small_model(), tmp_path)
    assert os.listdir(tmp_path) == []


_WITHOUT_KERAS = """
import runpy, sys
BLOCKED = ("keras", "tf_keras", "keras_nonlocal", "official", "trainers")
sys.modules.update(dict.fromkeys(BLOCKED))  # importing these is an error now
import numpy as np, tensorflow as tf
folder, data, example, video = sys.argv[1:]
loaded = tf.saved_model.load(folder + "/1")
data = np.load(data, allow_pickle=False)
clips = tf.constant(data["clips"])
frames = tf.map_fn(tf.io.encode_jpeg, clips[0], fn_output_signature=tf.string)
jpeg = loaded.signatures["jpeg"](frames=frames[None])["logits"]
features = loaded.signatures["features"](clips=clips)["features"]
positions = tf.constant(data["positions"])
attention = loaded.signatures["attention"](clips=clips, positions=positions)
np.testing.assert_allclose(features, data["features"], rtol=1e-5, atol=1e-5)
for name, value in attention.items():
    np.testing.assert_allclose(value, data[name], rtol=1e-5, atol=1e-5)
for shape in ((3, 2, 50, 40), (1, 9, 70, 36)):  # any B, T, H, W
    zeros = tf.zeros((*shape, 3), tf.uint8)
    outputs = loaded.signatures["serving_default"](clips=zeros)
    assert outputs["logits"].shape == (shape[0], 3)
logits = loaded.signatures["serving_default"](clips=clips)["logits"]
np.testing.assert_allclose(logits, data["logits"], rtol=1e-5, atol=1e-5)
np.testing.assert_allclose(jpeg, data["jpeg"], rtol=1e-5, atol=1e-5)
assert not any(sys.modules[name] for name in BLOCKED)
sys.argv = [example, folder, "missing.mp4", "large.mp4", video]
runpy.run_path(example, run_name="__main__")
"""


@pytest.mark.slow
def test_runs_without_keras(loaded, export_dir, tmp_path):
    clips = noise(1, NUM_FRAMES, 48, 64)
    frames = [[tf.io.encode_jpeg(frame).numpy() for frame in clips[0]]]
    positions = np.float32([[0, 0, 0], [3, 40, 20]])
    np.savez(
        tmp_path / "data.npz",
        clips=clips,
        positions=positions,
        features=call(loaded, "features", clips=clips)["features"],
        **call(loaded, "attention", clips=clips, positions=positions),
        logits=call(loaded, clips=clips)["logits"],
        jpeg=call(loaded, "jpeg", frames=frames)["logits"],
    )
    video = tmp_path / "moving.mp4"
    write_video(str(video), noise(9, SHORT_SIDE, SHORT_SIDE))
    write_video(str(tmp_path / "large.mp4"), noise(2, 100, 120))
    (tmp_path / "alone.py").write_text(_WITHOUT_KERAS)
    example = ROOT / "examples" / "predict_with_saved_model.py"
    done = subprocess.run(
        [sys.executable, "alone.py", export_dir, "data.npz", example, video],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert "error: missing.mp4: No such file or directory\n" in done.stderr, done.stderr
    assert "error: large.mp4: " in done.stderr and "100 x 120 pixels" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    path, *rows = done.stdout.splitlines()
    assert path == str(video)
    assert {row.rsplit(maxsplit=1)[0].strip() for row in rows} == set(CLASSES)
    scores = [float(row.split()[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=0.002)


def session_logits(folder, clips, **options):
    """As TF Serving loads it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta.signature_def["serving_default"]
        return session.run(
            signature.outputs["logits"].name,
            {signature.inputs["clips"].name: clips},
            **options,
        )


def test_the_session_loader_of_tf_serving_restores_every_weight(loaded, export_dir):
    clips = noise(2, NUM_FRAMES, 40, 50)
    logits = session_logits(export_dir / "1", clips)
    assert_close(logits, call(loaded, clips=clips)["logits"])


def ops_within(folder):
    """Kinds of operations in the functions of a SavedModel."""
    data = (folder / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0].graph_def
    return {node.op for part in graph.library.function for node in part.node_def}


def names_of_variables(folder):
    found = tf.train.list_variables(str(folder / "variables" / "variables"))
    return {name for name, _ in found if not name.startswith("_CHECKPOINTABLE")}


def test_no_batch_normalisation_is_left(model, export_dir):
    operations = ops_within(export_dir / "1")
    assert "Conv3D" in operations
    assert not {"Rsqrt", "FusedBatchNormV3"} & operations
    kept = names_of_variables(export_dir / "1")
    assert len(kept) == len(inference_form(model).variables) < len(model.variables)


def measured(folder, model):
    """The difference in `export.json` for `serving_default`, computed by hand."""
    clips = np.random.default_rng(0).integers(
        0, 256, (2, NUM_FRAMES, SHORT_SIDE + 8, SHORT_SIDE + 40, 3), np.uint8
    )
    crops = resize_and_center_crop(clips, SHORT_SIDE, CROP)
    expected = keras_logits(model, crops)
    logits = call(tf.saved_model.load(str(folder)), clips=clips)["logits"]
    return np.abs(logits - expected).max() / max(np.abs(expected).max(), 1)


def report_of(folder):
    return json.loads((folder / "assets.extra" / "export.json").read_text())


def test_float32_is_exact_to_rounding_and_reported(model, export_dir):
    report = report_of(export_dir / "1")
    assert report["precision"] == "float32" and report["constants"] is False
    assert max(report["logit_difference"].values()) < 1e-5
    assert measured(export_dir / "1", model) < 1e-5


@pytest.fixture(scope="module")
def small_and_fast(model, tmp_path_factory):
    task = make_task(precision="bfloat16", constants=True)
    folder = tmp_path_factory.mktemp("export")
    return pathlib.Path(export.export_saved_model(task, model, folder))


@pytest.mark.slow
def test_bfloat16_differs_by_what_is_reported(model, small_and_fast):
    report = report_of(small_and_fast)
    assert report["precision"] == "bfloat16" and report["constants"] is True
    assert set(report["logit_difference"]) == {"serving_default", "jpeg"}
    difference = measured(small_and_fast, model)
    assert report["logit_difference"]["serving_default"] == pytest.approx(
        difference, rel=1e-3
    )
    assert 1e-4 < difference < 5e-2  # bfloat16 it is, and no worse


@pytest.mark.slow
def test_constants_leave_no_variables(export_dir, small_and_fast):
    assert "ReadVariableOp" in ops_within(export_dir / "1")
    assert "ReadVariableOp" not in ops_within(small_and_fast)
    assert not names_of_variables(small_and_fast)
    clips = noise(1, NUM_FRAMES + 1, 40, 50)
    loaded = tf.saved_model.load(str(small_and_fast))
    logits = call(loaded, clips=clips)["logits"]
    np.testing.assert_allclose(
        session_logits(small_and_fast, clips), logits, rtol=0, atol=1e-3
    )


def fused_in_function(folder, clips):
    """Convolutions of the optimised graph, by what is computed with them."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    context.context().enable_graph_collection()
    try:
        signature(clips=tf.constant(clips))
        ran = context.context().export_run_metadata()
    finally:
        context.context().disable_graph_collection()
    return fused(part.post_optimization_graph for part in ran.function_graphs)


def fused_in_session(folder, clips):
    options = tf.compat.v1.RunOptions(output_partition_graphs=True)
    metadata = tf.compat.v1.RunMetadata()
    session_logits(folder, clips, options=options, run_metadata=metadata)
    return fused(metadata.partition_graphs)


def fused(graphs):
    found = [
        ",".join(name.decode() for name in node.attr["fused_ops"].list.s)
        for graph in graphs
        for part in (graph.node, *(f.node_def for f in graph.library.function))
        for node in part
        if "Conv3D" in node.op
    ]
    return collections.Counter(found)


def write(model, precision, constants, folder):
    config = make_task(precision, constants).task_config
    form = inference_form(model, precision)
    module = serving.ServingModule(form, config, CLASSES, constants)
    tf.saved_model.save(module, str(folder), signatures=module.clips)


@pytest.mark.parametrize(
    ("count", "precision"),
    [
        (fused_in_function, "float32"),
        pytest.param(fused_in_function, "bfloat16", marks=pytest.mark.slow),
        pytest.param(fused_in_session, "float32", marks=pytest.mark.slow),
        pytest.param(fused_in_session, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_constants_are_fused_as_variables_are(precision, count, tmp_path):
    model, clips = make_model(), noise(1, NUM_FRAMES, 40, 50)
    for constants in (False, True):
        write(model, precision, constants, tmp_path / str(constants))
    variables = count(tmp_path / "False", clips)
    if not any("BiasAdd" in names for names in variables):
        pytest.skip("this build of TensorFlow fuses no 3-D convolutions")
    assert variables[""] == 0 and variables["BiasAdd,Relu"] > 8
    assert count(tmp_path / "True", clips) == variables


def test_constants_larger_than_a_graph_are_refused(model, tmp_path, monkeypatch):
    weights = sum(np.asarray(v).nbytes for v in inference_form(model).variables)
    monkeypatch.setattr(serving, "_MAX_CONSTANT_BYTES", 2 * weights - 1)
    with pytest.raises(UserError, match="export.constants=false.*precision=bfloat16"):
        export.export_saved_model(make_task(constants=True), model, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_it(export_dir, tmp_path):
    def cli(command, *flags):
        program = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
        flags = ["--dir", export_dir / "1", "--tag_set", "serve", *flags]
        return subprocess.check_output([*program, command, *flags], text=True)

    clips = tmp_path / "clips.npy"
    np.save(clips, noise(2, 1, 40, 50))
    assert '"jpeg"' in cli("show")
    inputs = ["--inputs", f"clips={clips}", "--outdir", tmp_path]
    cli("run", "--signature_def", "serving_default", *inputs)
    scores = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(scores.sum(-1), [1, 1], rtol=1e-5)


def make_small_model(num_classes=3):
    clips = keras.Input((None, None, None, 3))
    x = keras.layers.GlobalAveragePooling3D()(clips)
    return keras.Model(clips, keras.layers.Dense(num_classes, name="pred")(x))


def export_into(folder, model=None, task=None):
    task, model = task or make_task(), model or make_small_model()
    return pathlib.Path(export.export_saved_model(task, model, folder))


def test_versions_count_up_and_multilabel_networks_give_sigmoids(tmp_path):
    for name in ("2", "10", "notes"):
        (tmp_path / name).mkdir()
    task = make_task(is_multilabel=True)
    version = export_into(tmp_path, task=task)
    assert sorted(os.listdir(tmp_path)) == ["10", "11", "2", "notes"]
    outputs = call(tf.saved_model.load(str(tmp_path / "11")), clips=noise(1, 4, 40, 40))
    np.testing.assert_allclose(
        outputs["probabilities"], 1 / (1 + np.exp(-outputs["logits"])), rtol=1e-5
    )
    text = (version / "assets" / "preprocessing.json").read_text()
    assert json.loads(text)["activation"] == "sigmoid"


def test_rounding_of_logits_near_zero_is_no_disagreement():
    # Recorded: a network of two steps, whose logits are sums of terms of about 1.
    expected = [[0.03915213, 0.0023251], [0.00613768, 0.01329218]]
    logits = [[0.03915117, 0.00232633], [0.00613813, 0.01329817]]
    difference = export._difference(logits, expected)
    assert difference == pytest.approx(5.99e-6, rel=1e-2)
    large = export._difference(1000 * np.array(logits), 1000 * np.array(expected))
    assert large == pytest.approx(1.53e-4, rel=1e-2)


def test_a_network_that_disagrees_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "normalize", lambda clips, *_: tf.cast(clips, "half"))
    with pytest.raises(UserError, match="`serving_default`.*disagrees"):
        export.export_saved_model(make_task(), make_small_model(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_weights_that_are_not_finite_are_not_exported(tmp_path):
    model = make_small_model()
    model.get_layer("pred").bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(UserError, match="difference of logits nan"):
        export.export_saved_model(make_task(), model, tmp_path)
    assert os.listdir(tmp_path) == []


# === Disks ===


def test_a_full_disk_is_named_and_left_as_it_was(small_disk):
    disk = small_disk(32 << 10)
    with pytest.raises(UserError, match=r"disk0/1: .*No space left.*Make room"):
        export_into(disk)
    assert os.listdir(disk) == []


def test_a_read_only_disk_is_named(small_disk, make_read_only):
    disk = small_disk(1 << 20)
    make_read_only(disk)
    with pytest.raises(UserError, match=r"disk0/.*Read-only file system.*Name a"):
        export_into(disk / "export")
    with pytest.raises(UserError, match=r"disk0/1: .*Read-only file system.*Name a"):
        export_into(disk)


def test_remote_versions_are_complete_and_count_up():
    folder = "ram://exports/served"
    for number in (1, 2):
        task = make_task()
        version = export.export_saved_model(task, make_small_model(), folder)
        assert version == f"{folder}/{number}"
    assert sorted(files.listdir(folder)) == ["1", "2"]
    assert sorted(files.listdir(version)) == [
        "assets",
        "assets.extra",
        "fingerprint.pb",
        "saved_model.pb",
        "variables",
    ]
    logits = call(tf.saved_model.load(version), clips=noise(1, 4, 40, 40))["logits"]
    assert logits.shape == (1, 3) and np.isfinite(logits).all()
    limits = files.read_json(f"{version}/assets.extra/export.json")["limits"]
    assert limits["max_frames"] == ExportConfig().max_frames


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    path = tmp_path / "export"
    path.write_text("mine")
    with pytest.raises(UserError, match="is a file: --export_dir must be a folder"):
        export_into(path)
    assert path.read_text() == "mine"


def test_an_unknown_file_system_is_named():
    with pytest.raises(UserError, match="nfs9://a/b: .*no such file system"):
        export.export_saved_model(make_task(), make_small_model(), "nfs9://a/b")


def test_what_killed_exports_left_is_removed(tmp_path):
    for name in (f".1.{'a' * 16}.part", ".export-abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text("half")
    (tmp_path / ".mine").mkdir()
    export_into(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine", "1"]


def test_exports_at_the_same_time_take_turns(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        versions = list(pool.map(export_into, [tmp_path] * 2))
    assert sorted(version.name for version in versions) == ["1", "2"]
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    for version in versions:
        assert set(report_of(version)["logit_difference"]) == {
            "serving_default",
            "jpeg",
        }


def test_another_class_list_is_refused(tmp_path):
    with pytest.raises(UserError, match="has 4 logits but the class list has 3"):
        export.export_saved_model(make_task(), make_small_model(4), tmp_path)


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_bfloat16_networks_stay_so_and_answer_in_float32(tmp_path, mixed_bfloat16):
    half = make_model()
    version = export_into(tmp_path, half)
    assert report_of(version)["precision"] == "bfloat16"
    clips = noise(2, NUM_FRAMES, SHORT_SIDE, SHORT_SIDE)
    outputs = call(tf.saved_model.load(str(version)), clips=clips)
    assert outputs["probabilities"].dtype == np.float32
    np.testing.assert_allclose(outputs["probabilities"].sum(-1), 1, rtol=1e-5)
    crops = clips[:, :, 2 : 2 + CROP, 2 : 2 + CROP]
    np.testing.assert_allclose(
        outputs["logits"], keras_logits(half, crops), atol=2e-3, rtol=0.02
    )


@pytest.mark.slow
def test_bfloat16_networks_can_be_exported_in_float32(tmp_path, mixed_bfloat16):
    half = make_model()
    version = export_into(tmp_path, half, make_task("float32"))
    keras.config.set_dtype_policy("float32")
    whole = make_model()
    whole.set_weights(half.get_weights())
    assert measured(version, whole) < 1e-5
    assert max(report_of(version)["logit_difference"].values()) < 1e-5


def test_warm_up_requests_are_there_for_every_signature(export_dir):
    from tensorflow_serving.apis import prediction_log_pb2 as logs

    path = export_dir / "1" / "assets.extra" / "tf_serving_warmup_requests"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        folder = str(export_dir / "1")
        meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        names = []
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            request = logs.PredictionLog.FromString(record).predict_log.request
            signature = meta.signature_def[request.model_spec.signature_name]
            outputs = session.run(
                {key: x.name for key, x in signature.outputs.items()},
                {
                    signature.inputs[key].name: tf.make_ndarray(x)
                    for key, x in request.inputs.items()
                },
            )
            names.append(request.model_spec.signature_name)
            assert all(len(x) == 1 for x in outputs.values())
    assert sorted(names) == SIGNATURES
