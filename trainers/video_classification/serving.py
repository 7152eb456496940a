"""What an exported network computes: raw clips in, class probabilities out.

Only TensorFlow is used in the graph, preprocessing included, so that the
SavedModel runs where neither Keras nor this repository is installed.
"""

import tensorflow as tf

from trainers.video_classification.data import normalize, resize_and_center_crop
from trainers.video_classification.scoring import build_scorer


def repeat_short(clips, num_frames):
    """Wraps clips of fewer than `num_frames` frames round to that many.

    That is what training does with short videos. Longer clips stay as they
    are: the network is free in time.

    Args:
        clips: `(batch, frames, ...)`, at least one frame.
        num_frames: Least number of frames of the result.
    """
    length = tf.shape(clips)[1]
    message = "A clip must have at least one frame; received a batch without any."
    with tf.control_dependencies([tf.debugging.assert_positive(length, message)]):
        index = tf.range(tf.maximum(length, num_frames)) % length
    return tf.gather(clips, index, axis=1)


class ServingModule(tf.Module):
    """The network behind two signatures that take what clients have.

    Both return `logits` and `probabilities`, float32 `(batch, classes)`. Every
    frame is scaled to the test short side, cut to the central square and
    normalised: one view of the test protocol. A clip has its frames already
    `temporal_stride` apart; with fewer than `num_frames` it is repeated from
    its start, and with more all of them are seen.

    Args:
        model: Keras model from normalised clips to logits.
        config: `VideoClassificationConfig`: its clips, and the short side, crop
            and kind of labels of its test.
    """

    def __init__(self, model, config):
        super().__init__(name="serving")
        # Tracked one by one: behind the Keras model the session loader, which
        # TF Serving uses, does not initialise all of them.
        self.weights = [variable.value for variable in model.variables]
        self._score = build_scorer(model, config)
        self._clip = config.clip
        self._data = config.validation_data

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, None, 3), tf.uint8, "clips")]
    )
    def clips(self, clips):
        """Signature `serving_default`: RGB clips `(batch, frames, H, W, 3)`."""
        return self._classify(self._crop(clips))

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.string, "frames")])
    def jpeg(self, frames):
        """Signature `jpeg`: encoded frames `(batch, frames)`, of any sizes."""
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
        logits, probabilities = self._score(clips)
        return {"logits": logits, "probabilities": probabilities}
