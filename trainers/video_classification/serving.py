"""The graph of an exported network: from raw clips to class probabilities.

It uses only TensorFlow, for preprocessing too, so that the SavedModel runs without
Keras and this repository.
"""

import numpy as np
import tensorflow as tf

from keras_nonlocal.layers import NonLocal3D
from trainers.core.errors import UserError
from trainers.video_classification.data import normalize, resize_and_center_crop
from trainers.video_classification.request_limits import checked_clips, checked_frames
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


class ServingModule(tf.Module):
    """The network with two signatures, for raw and for encoded frames.

    Both return `logits` and `probabilities`, float32 `(batch, classes)`. Every
    frame is scaled to the test short side, cut to the central square and
    normalised: one view of the test protocol. The frames of a clip must be
    `temporal_stride` apart, or `fps` of them a second. With fewer than `num_frames`,
    the clip is repeated from its start; with more, all are used. A request above a
    limit of `ExportConfig` is an InvalidArgumentError.

    Args:
        model: Keras model from normalised clips to logits.
        config: `VideoClassificationConfig`: its clips, the short side, crop and
            kind of labels of its test, and the limits of its export.
        constants: The weights are constants of the graph instead of variables.

    Raises:
        UserError: The constants do not fit in a graph.
    """

    def __init__(self, model, config, constants=False):
        super().__init__(name="serving")
        self._score = build_scorer(model, config)
        self._clip = config.clip
        self._data = config.validation_data
        self._limits = config.export
        self._has_blocks = any(isinstance(x, NonLocal3D) for x in model.layers)
        if constants:
            _check_fits(model, copies=2 if self._has_blocks else 1)
            self._score = with_constants(self._score, model)
        else:
            # Tracked one by one: through the Keras model, the session loader of
            # TF Serving does not initialise all of them.
            self.weights = [variable.value for variable in model.variables]
        # One function for both signatures, so that constants are stored once.
        side = self._data.crop_size
        spec = tf.TensorSpec((None, None, side, side, 3), tf.uint8)
        self._classify = tf.function(self._classify, input_signature=[spec])

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, None, 3), tf.uint8, "clips")]
    )
    def clips(self, clips):
        """Signature `serving_default`: RGB clips `(batch, frames, H, W, 3)`."""
        clips = checked_clips(clips, self._limits, self._data.crop_size)
        return self._classify(self._crop(clips))

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.string, "frames")])
    def jpeg(self, frames):
        """Signature `jpeg`: JPEG frames `(batch, frames)`, of any sizes."""
        frames = checked_frames(frames, self._limits, self._data.crop_size)
        crops = tf.map_fn(
            self._decode_and_crop,
            tf.reshape(frames, [-1]),
            fn_output_signature=tf.uint8,
        )
        side = self._data.crop_size
        shape = tf.concat([tf.shape(frames), [side, side, 3]], axis=0)
        return self._classify(tf.reshape(crops, shape))

    def _decode_and_crop(self, frame):
        image = tf.io.decode_jpeg(frame, channels=3)
        return self._crop(image[tf.newaxis, tf.newaxis])[0, 0]

    def _crop(self, clips):
        data = self._data
        return resize_and_center_crop(clips, data.min_short_side, data.crop_size)

    def _classify(self, crops):
        clips = repeat_short(crops, self._clip.num_frames)
        clips = normalize(clips, self._clip, tf.float32)
        logits, probabilities = self._scores(clips)
        return {"logits": logits, "probabilities": probabilities}

    def _scores(self, clips):
        """Logits and probabilities of normalised clips.

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
            "in lower precision: task.export.precision=bfloat16."
        )
