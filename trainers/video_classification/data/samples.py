"""Samples read by number; the work runs in TensorFlow's threads."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.core import files
from trainers.core.failures import FailureLog
from trainers.video_classification.data import paths, sampling, watchdog
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.index import Index
from trainers.video_classification.data.labels import clip_labels
from trainers.video_classification.data.reading import Views, cut_views
from trainers.video_classification.data.tfrecords.frame_cache import FrameCache
from trainers.video_classification.data.views import RandomView, TestViews

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

_ATTEMPTS_PER_CHECK = 20


class SampleReader:
    """Reads training samples and test views by number.

    Args:
        index: From `load_index`.
        data: See `make_dataset`.
        clip: The clip's length and stride.
        seed: Of the order and the augmentation.
        failures: Counts broken videos.
        cut: Function that makes the views of a video: `reading.cut_views`, or a
            part of it, to measure it alone.
    """

    def __init__(
        self,
        index: Index,
        data: DataConfig,
        clip: ClipConfig,
        seed: int,
        failures: FailureLog,
        cut=cut_views,
    ):
        _check_rate(index, data, clip)
        self.index, self.data, self.clip, self.cut = index, data, clip, cut
        self.cache = _frame_cache(index, data)
        self.seed, self.failures = seed or 0, failures
        self.num_threads = decoding_threads(data)
        self.augment = _augmentation(data, self.seed)
        self.num_views = data.num_test_clips * data.num_test_crops
        self.labels = _labels(index, data.is_multilabel)
        self.order = sampling.VideoOrder(
            self.seed, _rarest_labels(index), data.sampling_exponent
        )
        self._without_rate: set[int] = set()
        self.clip_shape = (clip.num_frames, data.crop_size, data.crop_size, 3)
        self.test_shape = self.clip_shape
        if data.protocol.whole_frame:
            self.test_shape = (clip.num_frames, None, None, 3)

    def training_sample(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        types = [tf.uint8, self.labels.dtype, tf.int32]
        clip, label, video = self._call(self.read_sample, number, types)
        video.set_shape(())
        clip.set_shape(self.clip_shape)
        if self.augment:
            clip = self.augment(clip, number)
        label.set_shape(self.labels.shape[1:])
        return self._example(clip, label, video, view=0)

    def test_views(self, video: tf.Tensor) -> dict[str, tf.Tensor]:
        types = [tf.uint8, tf.int32]
        clips, video = self._call(self._read_test_views, video, types)
        clips.set_shape((None, *self.test_shape))
        count = tf.shape(clips)[0]
        videos = tf.repeat(tf.ensure_shape(video, ()), count)
        labels = tf.gather(self.labels, videos)
        return self._example(clips, labels, videos, view=tf.range(count))

    def padding(self) -> dict[str, tf.Tensor]:
        clip, label = tf.zeros(self.clip_shape, tf.uint8), tf.constant(self.labels[0])
        example = self._example(clip, label, tf.constant(0), view=0)
        return example | {"weight": tf.constant(0.0)}

    def _example(self, clip, label, video, view) -> dict[str, tf.Tensor]:
        return {
            "clip": clip,
            "label": label,
            "video": video,
            "view": tf.convert_to_tensor(view, tf.int32),
            "weight": tf.ones_like(video, tf.float32),
        }

    def _call(self, function, number: tf.Tensor, types: list):
        # Not stateful: the result depends on `number` alone. With op determinism
        # TensorFlow would run a stateful function one sample at a time.
        return tf.numpy_function(
            self._guarded(function), [number], types, stateful=False
        )

    def _guarded(self, function):
        def call(number):
            try:
                return function(int(number))
            except Exception as error:
                self.failures.error = error
                raise

        return call

    def read_sample(self, number: int) -> tuple[np.ndarray, np.ndarray, np.int32]:
        """Sample `number`; of another video if its own is broken.

        Returns:
            Clip, label and position of the video.
        """
        video = self.order.video(number)
        attempt = 0
        while True:
            generator = sampling.sample_generator(self.seed, number, attempt)
            if attempt:
                video = self.order.replacement(number, generator)
            plan = RandomView(self.data, self.clip, generator)
            views = self._read(video, plan)
            if views is not None:
                return views.pixels[0], self._label(video, views), np.int32(video)
            attempt += 1
            if attempt % _ATTEMPTS_PER_CHECK == 0:
                self.failures.check_any_left(video.path for video in self.index.videos)

    def _label(self, video: int, views: Views) -> np.ndarray:
        """The label of a training clip: of its frames, if the index has times."""
        label, actions = self.labels[video].copy(), self.index.videos[video].actions
        if actions and self.data.is_multilabel:
            if views.frame_rate:
                label[:] = 0
                label[clip_labels(actions, views.frames, views.frame_rate)] = 1
            else:
                self._warn_without_rate(video)
        return label

    def _warn_without_rate(self, video: int) -> None:
        if video not in self._without_rate:
            self._without_rate.add(video)
            logging.warning(
                "%s: its frame rate is unknown, so its clips have all of its labels.",
                self.index.videos[video].path,
            )

    def _read_test_views(self, video: int) -> tuple[np.ndarray, np.int32]:
        views = self._read(video, TestViews(self.data, self.clip))
        if views is None:
            return np.zeros((0, *self.clip_shape), np.uint8), np.int32(video)
        return views.pixels, np.int32(video)

    def _read(self, video: int, plan) -> Views | None:
        """The views; None for a broken video. Too many of these raise an error."""
        path = self.index.videos[video].path
        if path in self.failures.failures:
            self.failures.check()
            return None
        self.failures.attempt(path)
        try:
            return watchdog.within(
                path,
                self.data.limits.seconds,
                self.cut,
                path,
                self.data.decoder,
                plan,
                self.failures.warn,
                self.cache,
                self.data.limits,
                self.data.frame_rate,
            )
        except VideoError as error:
            self.failures.record(path, self.index.named(path, error.reason))
        finally:
            self.failures.check()
        return None


def _labels(index: Index, is_multilabel: bool) -> np.ndarray:
    """Of whole videos: int32 (n,); float32 (n, K), 0 or 1, if `is_multilabel`."""
    if not is_multilabel:
        return np.array([video.labels[0] for video in index.videos], np.int32)
    labels = np.zeros((len(index), len(index.class_names)), np.float32)
    for row, video in zip(labels, index.videos, strict=True):
        row[list(video.labels)] = 1
    return labels


def _check_rate(index: Index, data: DataConfig, clip: ClipConfig) -> None:
    """Raises `DataError` if no clip can be cut from folders of frames."""
    folders = (v.path for v in index.videos if paths.is_frame_folder(v.path))
    first = next(folders, None)
    if clip.fps and first and not data.frame_rate:
        raise DataError(
            f"`task.clip.fps` samples by time, but the frame rate of folders of frames "
            f"is unknown, such as that of {files.printable(first)}: set `frame_rate` "
            "of the data set (task.train_data, task.validation_data)."
        )


def _rarest_labels(index: Index) -> list[int]:
    """The label of each video that the fewest videos have; -1 without labels."""
    counts = index.num_videos_by_class
    return [
        min(video.labels, key=lambda label: (counts[label], label), default=-1)
        for video in index.videos
    ]


def _augmentation(data: DataConfig, seed: int):
    """What is done to training clips once they are cut, or None."""
    if not (data.is_training and data.aug_type.is_on):
        return None
    from trainers.video_classification.data.augmentation import RandAugment

    return RandAugment(data.aug_type.get(), seed)


def _frame_cache(index: Index, data: DataConfig) -> FrameCache | None:
    if not data.frame_cache:
        return None
    if not any(paths.is_video_file(video.path) for video in index.videos):
        raise DataError(
            f"`frame_cache` keeps JPEG frames, but {index.path} already consists of "
            "frames: leave it empty."
        )
    folder = pathlib.Path(data.frame_cache).resolve()
    if pathlib.Path(index.path).resolve() in (folder, *folder.parents):
        raise DataError(
            f"`frame_cache` ({data.frame_cache}) is inside the data, {index.path}, and "
            "would be read as a class: name a folder elsewhere."
        )
    largest = data.max_short_side if data.is_training else data.min_short_side
    return FrameCache(
        data.frame_cache, largest, data.frame_cache_gib, limits=data.limits
    )


def decoding_threads(data: DataConfig) -> int:
    """Number of videos decoded at once."""
    return data.num_parallel_decodes or len(os.sched_getaffinity(0))
