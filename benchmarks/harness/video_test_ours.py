"""Ours: `--mode predict` and `--mode eval` on videos, from file to label."""

import contextlib
import dataclasses
import io
import json
import tempfile

import numpy as np
import tensorflow as tf

from harness.network_tensorflow import experiment
from harness.networks import CLASSES, fill
from harness.video_test_job import Job, made
from trainers.core import distribution
from trainers.core.trainer import Trainer
from trainers.video_classification import export, predict, predictors
from trainers.video_classification.data.views import TestViews
from trainers.video_classification.options import Options
from trainers.video_classification.task import VideoClassificationTask


def make(mode, job):
    """A mode of `MODES` on a job's videos, `count` of them in a run.

    Values are the class probabilities of the first video: by `spread`, and of
    `predict` by `job.protocols`.
    """
    job = Job.read(job)
    config = _config(job)
    distribution.configure(config.runtime)
    with distribution.build_strategy(config.runtime).scope():
        task = _Task(config.task, class_names=["clip", *map(str, range(1, CLASSES))])
        model = fill(task.build_model(), job.weights)
        return MODES[mode](job, config, task, model)


def _config(job):
    """The experiment; its validation data are what is tested."""
    config = experiment(job.case)
    config.task.clip.num_frames = job.case.frames
    config.task.clip.temporal_stride = job.stride
    config.task.train_data.crop_size = job.train_side
    data = config.task.validation_data
    data.input_path, data.num_parallel_decodes = job.folder, job.workers
    data.min_short_side = data.max_short_side = data.crop_size = job.case.side
    data.num_test_clips, data.num_test_crops = job.clips, job.crops
    return config


def _predict(job, config, task, model):
    run = _run_of(predictors.of_model(task, model), job)

    def values():
        return [_probabilities(run(1, protocol)) for protocol in job.protocols]

    return made(lambda: len(run()), values)


def _export(job, config, task, model):
    with tempfile.TemporaryDirectory() as folder:
        export.export_saved_model(task, model, folder)
        run = _run_of(predictors.of_export(folder), job)
    return made(lambda: len(run()), lambda: [_probabilities(run(1))])


def _run_of(predictor, job):
    """Function that predicts videos; what `predict` prints as JSON."""

    def run(count=job.count, protocol="spread"):
        paths = tuple(job.videos[:count])
        options = Options(model_dir="", paths=paths, as_json=True, top_k=CLASSES)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            predict.run(_with_views(predictor, protocol), options)
        return json.loads(output.getvalue())

    return run


def _with_views(predictor, protocol):
    if protocol == predictor.data.test_protocol:
        return predictor
    data = dataclasses.replace(predictor.data, test_protocol=protocol)
    plan = TestViews(data, predictor.clip)
    return dataclasses.replace(predictor, data=data, plan=plan)


def _probabilities(results):
    [video] = results
    found = sorted((row["label"], row["score"]) for row in video["predictions"])
    return [score for _, score in found]


def _eval(job, config, task, model):
    trainer = Trainer(config, task, model)

    def run():
        task.scores = []
        return trainer.evaluate(tf.constant(-1))["num_videos"]

    def values():
        run()
        return [np.concatenate(task.scores)[: job.num_views].mean(axis=0)]

    return made(run, values)


MODES = {"predict": _predict, "export": _export, "eval": _eval}


class _Task(VideoClassificationTask):
    """Keeps the probabilities of the views."""

    scores = []

    def aggregate_logs(self, state, step_logs):
        self.scores.append(step_logs["score"])
        return super().aggregate_logs(state, step_logs)
