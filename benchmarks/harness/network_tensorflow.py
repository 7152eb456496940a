"""Ours on TensorFlow: the forms of a network for inference, the trainer's step."""

import numpy as np
import tensorflow as tf

from harness.networks import (
    CLASSES,
    Case,
    clips,
    fill,
    labels,
    model_options,
    our_model,
    pixels,
)
from harness.process import Made


def make(kind, key, case, source):
    """A form of `networks.OURS`.

    Args:
        kind: `"inference"` or `"training"`.
        key: Of the form.
        case: `networks.Case`.
        source: Of inference, the folder that `export` wrote; of training, a file of
            weights, or None.
    """
    case = Case(*case)
    return _load(case, source) if kind == "inference" else _training(case, source)


def smallest(kind, key, case, source):
    """Arguments of `make` for a tiny network."""
    source = f"{source}/{SMALLEST}" if kind == "inference" else None
    return kind, key, Case(*case).smallest, source


def export(key, case, weights, folder):
    """Writes the form as a SavedModel, and that of a tiny network.

    It is measured in a process that has not built the model itself: TensorFlow keeps
    the memory of objects that are no longer needed, and the peak of a folded network,
    for example, would include the network that it was made from.
    """
    case = Case(*case)
    save(key, our_model(case, weights), case, folder)
    case = case.smallest
    save(key, our_model(case), case, f"{folder}/{SMALLEST}")


def save(key, model, case, folder):
    """Writes a form of a model as a SavedModel, for `make`."""
    module = tf.Module()
    module.call = FORMS[key](model, case.dtype)
    traced = module.call.get_concrete_function(tf.TensorSpec(clips(case).shape))
    module.weights = traced.variables
    tf.saved_model.save(module, folder)


def _load(case, folder):
    module = tf.saved_model.load(folder)
    clip = tf.constant(clips(case))

    def step(module=module):  # which keeps the variables
        return module.call(clip)

    return Made({"inference": step}, lambda: [tf.cast(step(), tf.float32).numpy()])


def folded(case):
    """A function that runs the folded network."""
    call, clip = _folded(our_model(case), case.dtype), tf.constant(clips(case))
    return lambda: call(clip)


def _plain(model, dtype):
    return tf.function(lambda clips: model(clips, training=False))


def _folded(model, dtype):
    from keras_nonlocal import fold_batch_norm

    return _plain(fold_batch_norm(model, dtype), dtype)


def _constants(model, dtype):
    """Folded, with its weights as constants, as `task.export.constants` exports it."""
    from keras_nonlocal import fold_batch_norm
    from trainers.video_classification.scoring import with_constants

    folded = fold_batch_norm(model, dtype)
    call = with_constants(lambda clips: folded(clips, training=False), folded)
    return tf.function(call)


FORMS = {"plain": _plain, "folded": _folded, "constants": _constants}
SMALLEST = "smallest"


def _training(case, weights):
    """The training step of `trainers/video.py`, on one repeated batch."""
    trainer = _trainer(case, weights)
    one = tf.constant(1)

    def values():
        results = trainer.train(one)
        return [np.float32([results[name]]) for name in ("loss", "gradient_norm")]

    return Made({"training": lambda: trainer.train(one)}, values)


def evaluation(case):
    """Function that evaluates some batches as `--mode eval` does; all are the same."""
    from trainers.core import distribution
    from trainers.core.trainer import Trainer

    config = experiment(case)
    rows = np.arange(case.batch, dtype="int32")
    extra = {"video": rows, "view": rows * 0}
    data = _batches(case, extra)
    distribution.configure(config.runtime)
    with distribution.build_strategy(config.runtime).scope():
        task = _task(config, data, num_videos=case.batch)
        trainer = Trainer(config, task, task.build_model())
    return lambda num_batches: trainer.evaluate(tf.constant(num_batches))


def prediction(case):
    """The function of `--mode predict` from a video's uint8 views to its scores."""
    from trainers.core import distribution
    from trainers.video_classification.predictors import build_video_scorer

    config = experiment(case)
    distribution.configure(config.runtime)
    task = _task(config, _batches(case))
    return build_video_scorer(task, task.build_model())


def _trainer(case, weights):
    from trainers.core import distribution, optimization
    from trainers.core.trainer import Trainer

    config = experiment(case)
    distribution.configure(config.runtime)
    with distribution.build_strategy(config.runtime).scope():
        task = _task(config, _batches(case))
        model = task.build_model((case.frames, case.side, case.side, 3))
        fill(model, weights)
        distribution.share_dropout_masks(model)
        chosen = config.trainer.optimizer_config
        optimizer = optimization.build_optimizer(
            chosen, config.runtime, config.task.train_data.global_batch_size
        )
        optimization.build_for(optimizer, model)
        return Trainer(config, task, model, optimizer)


def experiment(case):
    """The config of a network, for our trainer."""
    from trainers.core.config import build_experiment
    from trainers.video_classification import experiments  # noqa: F401  registers

    config = build_experiment("video_classification")
    config.runtime.distribution_strategy = "one_device"
    config.runtime.mixed_precision_dtype = case.dtype
    config.task.model.override(
        {"name": "i3d" if case.is_inflated else "c2d", **model_options(case)}
    )
    if case.recompute:
        config.trainer.recompute_activations = True
    rate = config.trainer.optimizer_config.learning_rate
    rate.type, rate.constant.learning_rate = "constant", 1e-3
    return config


def _batches(case, extra=None):
    weights = np.ones(case.batch, "float32")
    batch = {"clip": pixels(case), "label": labels(case), "weight": weights}
    return tf.data.Dataset.from_tensors(batch | (extra or {})).repeat()


def _task(config, batches, num_videos=0):
    from trainers.video_classification.data import Index
    from trainers.video_classification.task import VideoClassificationTask

    class FromMemory(VideoClassificationTask):
        """Its data are given."""

        validation_index = Index((None,) * num_videos, (), "", "")

        def build_inputs(self, params, input_context=None, start_batch=0):
            return batches

    return FromMemory(config.task, class_names=range(CLASSES))
