"""Whatever is wrong in a config is one `error:` line, without a traceback."""

import numpy as np
import pytest
import tensorflow as tf
import yaml

from trainers.core import cli
from trainers.core.modes import find_checkpoint
from trainers.video_classification import modes
from trainers.video_classification.data import write_video

OPTIMIZER = "trainer.optimizer_config.optimizer"
RATE = "trainer.optimizer_config.learning_rate"
WARMUP = "trainer.optimizer_config.warmup"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config that trains one step of a small network."""
    folder = tmp_path_factory.mktemp("data")
    frames = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), np.uint8)
    for name in ("a", "b"):
        (folder / "videos" / name).mkdir(parents=True)
        write_video(str(folder / "videos" / name / "0.mp4"), frames)
    data = {
        "input_path": str(folder / "videos"),
        "global_batch_size": 2,
        "min_short_side": 16,
        "max_short_side": 16,
        "crop_size": 16,
    }
    network = {"name": "c2d", "depth": 14, "width": 4, "non_local": {"res2": [0]}}
    values = {
        "experiment": "video_classification",
        "task": {
            "model": network,
            "clip": {"num_frames": 2, "temporal_stride": 1},
            "train_data": data,
            "validation_data": data,
        },
        "trainer": {"train_steps": 1},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def errors_of(config, tmp_path, capsys):
    """Function from overrides to what the command prints to stderr when it fails."""

    def run(*overrides, mode="train"):
        options = modes.Options(str(tmp_path), (str(config),), overrides)
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda: modes.run(mode, options))
        assert stopped.value.code == 1
        return capsys.readouterr().err

    yield run
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # The network: what keras_nonlocal and Keras raise.
        ("task.model.depth=51", "task.model: Invalid value for argument `depth`"),
        ("task.model.stem=9x9", "task.model: Invalid value for argument `stem`"),
        ("task.model.width=0", "task.model: Invalid value for argument `width`"),
        ("task.model.dropout_rate=2", "argument `dropout_rate`"),
        ("task.model.temporal_kernel=3x1x1", "temporal_kernel"),
        ("task.model.non_local=3", "argument `non_local`"),
        ("task.model.non_local={res9: [0]}", "not 'res9'"),
        ("task.model.non_local={res2: [7]}", "Expected indices 0 to 0"),
        ("task.model.non_local={res2: a}", "Expected a list of block indices"),
        ("task.model.non_local_options={mode: gausian}", "Did you mean 'gaussian'?"),
        ("task.model.non_local_options={group_size: 0}", "group_size"),
        ("task.model.non_local_options={foo: 1}", "no argument 'foo'"),
        ("task.model.non_local_options={dtype: float33}", "float33"),
        ("task.model.non_local_options={kernel_initializer: foo}", "foo"),
        ("task.model.non_local_options=[1]", "non_local_options"),
        # Clips and data.
        ("task.clip.num_frames=0", "num_frames"),
        ("task.clip.mean=[1,2]", "mean"),
        ("task.train_data.prefetch_buffer_size=-7", "prefetch_buffer_size"),
        ("task.train_data.global_batch_size=0", "global_batch_size"),
        ("task.train_data.crop_size=400", "crop_size"),
        ("task.train_data.decoder=foo", "decoder"),
        ("task.train_data.class_file=/nowhere", "/nowhere"),
        ("task.train_data.class_file=/", "/: "),
        ("task.train_data.input_path=/dev/null", "/dev/null"),
        ("task.train_data.input_path=s3x://a/b", "s3x://a/b"),
        ("task.init_checkpoint=/dev/null", "/dev/null"),
        ("task.export.max_frames=0", "task.export.max_frames must be positive"),
        # Optimizer and learning rate.
        (f"{OPTIMIZER}=null", f"{OPTIMIZER}.type is None"),
        (f"{OPTIMIZER}.sgd.momentum=2", "momentum must be in [0, 1)"),
        (f"{OPTIMIZER}.sgd.weight_decay=-1", "weight_decay must be at least 0"),
        (
            f"{OPTIMIZER}.type=adamw,{OPTIMIZER}.adamw.beta_1=2",
            "beta_1 must be in [0, 1)",
        ),
        (
            f"{OPTIMIZER}.type=adamw,{OPTIMIZER}.adamw.epsilon=0",
            "epsilon must be positive",
        ),
        (f"{RATE}=null", "learning_rate.type is not set"),
        (f"{RATE}.type=cosine", f"{RATE}.cosine.initial_learning_rate is not set"),
        (f"{RATE}.type=stepwise", f"{RATE}.stepwise.boundaries is not set"),
        (f"{WARMUP}.type=linear", f"{WARMUP}.linear.warmup_steps is not set"),
        # Trainer and runtime.
        ("trainer.best_checkpoint_export_subdir=/", "within the model directory"),
        ("trainer.validation_summary_subdir=../x", "within the model directory"),
        ("runtime.seed=-1", "runtime.seed must be from 0"),
        ("runtime.num_gpus=-5", "runtime.num_gpus must be at least -1"),
        ("runtime.num_gpus=99", "runtime.num_gpus is 99, but TensorFlow sees"),
        ("runtime.distribution_strategy=multi_worker_mirrored", "set TF_CONFIG"),
        ("runtime.num_packs=-1", "runtime.num_packs must be at least 0"),
        ("runtime.loss_scale=0", "runtime.loss_scale must be positive"),
    ],
)
def test_it_is_one_error_without_a_traceback(errors_of, override, message):
    errors = errors_of(override)
    assert errors.startswith("error: ") and message in errors
    assert "Traceback" not in errors and "Please report" not in errors


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{OPTIMIZER}=null", f"{OPTIMIZER}.type is None"),
        (f"{OPTIMIZER}.sgd.momentum=2", "momentum must be in [0, 1)"),
        (f"{OPTIMIZER}.sgd.weight_decay=-1", "weight_decay must be at least 0"),
        (f"{RATE}=null", "learning_rate.type is not set"),
        (f"{RATE}.constant.learning_rate=-1", "learning_rate must be at least 0"),
        (
            f"{WARMUP}={{type: linear, linear: {{warmup_steps: -1}}}}",
            f"{WARMUP}.linear.warmup_steps must be positive. Received: -1.",
        ),
        ("runtime.num_gpus=99", "runtime.num_gpus is 99, but TensorFlow sees"),
    ],
)
def test_dry_run_refuses_it_too(errors_of, override, message):
    errors = errors_of(override, mode="dry_run")
    assert errors.startswith("error: ") and message in errors


MIXED = "task.train_data.mixup_and_cutmix.mixup_alpha=0.8"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([MIXED, "task.train_data.global_batch_size=3"], "Received: 3 of global_batch"),
        (["task.train_data.global_batch_size=0"], "global_batch_size must be positive"),
        (["trainer.gradient_accumulation_steps=3"], "choose a multiple of 3"),
        ([f"{RATE}=null"], "learning_rate.type is not set"),
    ],
)
def test_what_training_refuses_is_found_before_the_network_is_built(
    errors_of, overrides, message
):
    impossible = "task.model.depth=51"  # refused by the network's builder
    errors = errors_of(*overrides, impossible)
    assert message in errors and "depth" not in errors


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ckpt-4", "{folder}/ckpt-4"), ("ckpt-5", "ckpt-5"), ("other/ckpt-4",) * 2],
)
def test_the_name_of_a_checkpoint_is_looked_up_in_the_model_directory(
    tmp_path, name, expected
):
    (tmp_path / "ckpt-4.index").touch()
    options = modes.Options(str(tmp_path), checkpoint=name)
    found = find_checkpoint(options, experiment=None)
    assert found == expected.format(folder=tmp_path)
