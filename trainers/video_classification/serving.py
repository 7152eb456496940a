"""The graph of an exported network: from raw clips to class probabilities.

It uses only TensorFlow, for preprocessing too, so that the SavedModel runs without
Keras and this repository.
"""

import numpy as np
import tensorflow as tf

from trainers.core.errors import UserError
from trainers.video_classification.attention_rows import AttentionRows, block_names
from trainers.video_classification.data import (
    crop_transform,
    normalize,
    resize_and_center_crop,
)
from trainers.video_classification.request_limits import (
    checked_clips,
    checked_frames,
    checked_positions,
)
from trainers.video_classification.scoring import build_scorer, with_constants

# The limit of a protocol buffer, which contains the graph with its constants, minus a
# margin for the rest of the graph.
_MAX_CONSTANT_BYTES = 2**31 - 2**26


def repeat_short(clips, num_frames):
    """Repeats clips of fewer than `num_frames` frames, from their start.

    Training does the same with short videos. Longer clips are not changed: the
    network takes any number of frames.

    Args:
        clips: `(batch, frames, ...)`, at least one frame.
        num_frames: Minimum number of frames of the result.
    """
    length = tf.shape(clips)[1]
    message = "A clip must have at least one frame; received a batch without frames."
    with tf.control_dependencies([tf.debugging.assert_positive(length, message)]):
        index = tf.range(tf.maximum(length, num_frames)) % length
    return tf.gather(clips, index, axis=1)


_CLIPS = tf.TensorSpec((None, None, None, None, 3), tf.uint8, "clips")
_FRAMES = tf.TensorSpec((None, None), tf.string, "frames")
_POSITIONS = tf.TensorSpec((None, 3), tf.float32, "positions")


class ServingModule(tf.Module):
    """The network and its signatures, `signatures`:

    - `serving_default`, of raw frames, and `jpeg`, of encoded ones: `logits` and
      `probabilities`, float32 `(batch, classes)`; `classes` and `scores`, the names
      and probabilities of the `top_k` most probable classes, `(batch, top_k)`.
    - `features`: `features`, float32 `(batch, channels)`, what the classifier receives.
    - `attention`, if there are blocks: of each block `NAME`, float32 `(batch,
      positions, keys)`, the weights of the keys for each position; `NAME_keys`,
      `(positions, keys, 3)`, where these lie, as frame, row and column of the clip;
      `NAME_queries`, `(positions, 3)`, the block's positions nearest to those asked.

    Every frame is scaled to the test short side, cut to the central square and
    normalised: one view of the test protocol. The frames of a clip must be
    `temporal_stride` apart, or `fps` of them a second. With fewer than `num_frames`,
    the clip is repeated from its start; with more, all are used. A request above a
    limit of `ExportConfig` is an InvalidArgumentError.

    Args:
        model: Keras model from normalised clips to logits.
        config: `VideoClassificationConfig`: its clips, the short side, crop and
            kind of labels of its test, and the settings of its export.
        class_names: In label order.
        constants: The weights are constants of the graph instead of variables.

    Raises:
        UserError: The constants do not fit in a graph; there is no block of a name in
            `attention_blocks`.
    """

    def __init__(self, model, config, class_names, constants=False):
        super().__init__(name="serving")
        self._score = build_scorer(model, config, with_features=True)
        self._clip = config.clip
        self._data = config.validation_data
        self._settings = config.export
        self._limits = config.export, self._data.crop_size, self._clip.num_frames
        self._class_names = list(class_names)
        self._has_blocks = bool(block_names(model))
        blocks = block_names(model, config.export.attention_blocks)
        self._attend = AttentionRows(model, blocks) if blocks else None
        if constants:
            copies = (2 if self._has_blocks else 1) + bool(blocks)
            _check_fits(model, copies)
            self._score = with_constants(self._score, model)
            self._attend = blocks and with_constants(self._attend, model)
        else:
            # Tracked one by one: through the Keras model, the session loader of
            # TF Serving does not initialise all of them.
            self.weights = [variable.value for variable in model.variables]
        # One function for several signatures, so that constants are stored once.
        side = self._data.crop_size
        spec = tf.TensorSpec((None, None, side, side, 3), tf.uint8)
        self._classify = tf.function(self._classify, input_signature=[spec])
        if blocks:
            specs = [_CLIPS, _POSITIONS]
            self.attention = tf.function(self._attention, input_signature=specs)

    @property
    def signatures(self):
        """Functions by the name of their signature."""
        found = {
            "serving_default": self.clips,
            "jpeg": self.jpeg,
            "features": self.features,
        }
        has_attention = hasattr(self, "attention")
        return found | ({"attention": self.attention} if has_attention else {})

    @tf.function(input_signature=[_CLIPS])
    def clips(self, clips):
        """Signature `serving_default`: RGB clips `(batch, frames, H, W, 3)`."""
        return self._ranked(self._classify(self._checked_crops(clips)))

    @tf.function(input_signature=[_FRAMES])
    def jpeg(self, frames):
        """Signature `jpeg`: JPEG frames `(batch, frames)`, of any sizes."""
        frames = checked_frames(frames, *self._limits)
        crops = tf.map_fn(
            self._decode_and_crop,
            tf.reshape(frames, [-1]),
            fn_output_signature=tf.uint8,
        )
        side = self._data.crop_size
        shape = tf.concat([tf.shape(frames), [side, side, 3]], axis=0)
        return self._ranked(self._classify(tf.reshape(crops, shape)))

    @tf.function(input_signature=[_CLIPS])
    def features(self, clips):
        """Signature `features`: clips as in `serving_default`."""
        crops = self._checked_crops(clips)
        return {"features": self._classify(crops)["features"]}

    def _attention(self, clips, positions):
        """Signature `attention`: one set of positions, for all of the clips."""
        crops = self._checked_crops(clips)
        positions = checked_positions(positions, clips, self._settings)
        data, shape = self._data, tf.shape(clips)
        transform = (shape[2:4], data.min_short_side, data.crop_size)
        scale, offset = (
            tf.concat([[first], of_image], 0)
            for first, of_image in zip(
                (1.0, 0.0), crop_transform(*transform), strict=True
            )
        )
        rows = self._attend(self._normalized(crops), scale * positions + offset)
        # Frame T of a clip of T frames that was repeated is its frame 0.
        frames = tf.stack([tf.cast(shape[1], tf.float32), np.inf, np.inf])

        def in_clip(points):
            points = (points - offset) / scale
            return tf.where(points < frames, points, tf.math.floormod(points, frames))

        outputs = {}
        for name, found in rows.items():
            outputs[name] = found.scores
            outputs[f"{name}_queries"] = in_clip(found.queries)
            outputs[f"{name}_keys"] = in_clip(found.keys)
        return outputs

    def _checked_crops(self, clips):
        return self._crop(checked_clips(clips, *self._limits))

    def _decode_and_crop(self, frame):
        image = tf.io.decode_jpeg(frame, channels=3)
        return self._crop(image[tf.newaxis, tf.newaxis])[0, 0]

    def _crop(self, clips):
        data = self._data
        return resize_and_center_crop(clips, data.min_short_side, data.crop_size)

    def _classify(self, crops):
        names = ("logits", "probabilities", "features")
        return dict(zip(names, self._scores(self._normalized(crops)), strict=True))

    def _normalized(self, crops):
        clips = repeat_short(crops, self._clip.num_frames)
        return normalize(clips, self._clip, tf.float32)

    def _ranked(self, outputs):
        """The outputs of `_classify`, with the best classes by name."""
        probabilities = outputs["probabilities"]
        count = min(self._settings.top_k, len(self._class_names))
        scores, indices = tf.math.top_k(probabilities, count)
        return {
            "logits": outputs["logits"],
            "probabilities": probabilities,
            "classes": tf.gather(tf.constant(self._class_names), indices),
            "scores": scores,
        }

    def _scores(self, clips):
        """Logits, probabilities and features of normalised clips.

        Non-local blocks select their algorithm by the number of positions, and one
        for any number if the graph has dynamic shapes. So clips of `num_frames`,
        which are the most frequent, have a graph of their own.
        """
        if not self._has_blocks:
            return self._score(clips)
        num_frames = self._clip.num_frames
        usual = (None, num_frames, *clips.shape[2:])
        return tf.cond(
            tf.shape(clips)[1] == num_frames,
            lambda: self._score(tf.ensure_shape(clips, usual)),
            lambda: self._score(clips),
        )


def _check_fits(model, copies):
    weights = sum(np.asarray(variable.value).nbytes for variable in model.variables)
    if copies * weights > _MAX_CONSTANT_BYTES:
        raise UserError(
            f"The weights as constants take {copies * weights / 2**30:.2f} GiB in the "
            "graph, whose limit is 2 GiB. Export with task.export.constants=false, or "
            "in lower precision: task.export.precision=bfloat16, or without "
            "the signature `attention`: task.export.attention_blocks=[]."
        )
