"""Our side of benchmarks/detection.py."""

import numpy as np
import tensorflow as tf

import keras_nonlocal
from harness import detection_networks
from harness.detection_networks import DECAY, FROZEN, MOMENTUM, RATE
from harness.process import Made
from trainers.core.config_definitions import SGDConfig
from trainers.core.optimization import SGD, apply_global_gradients, build_for
from trainers.detection.configs import SamplingConfig
from trainers.detection.initialization import freeze_layers
from trainers.detection.objective import compute_losses

CLASSES = {
    "maskrcnn": keras_nonlocal.MaskRCNN,
    "keypointrcnn": keras_nonlocal.KeypointRCNN,
}


def make(network, size, threads, task):
    """Detection in an image of `size`, or a step of training."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    images, objects = detection_networks.inputs(network, size, task)
    step = {"detection": _detection, "training": _training}[task]
    step = step(network, images, objects)
    return Made({task: step}, lambda: [np.array(step())])


def _detection(network, images, objects):
    """A function that detects the objects in an image, and counts them."""
    model = _model(network, images[0])
    return lambda: len(model.detect(images)[0]["scores"])


def _training(network, images, objects):
    """A function of one step of SGD, that gives the loss."""
    model = _model(network, images[0])
    freeze_layers(model, FROZEN)
    optimizer, decay = SGD(RATE, MOMENTUM), SGDConfig(weight_decay=DECAY)
    build_for(optimizer, model)
    pixels, config = tf.constant(np.stack(images)), SamplingConfig()
    batch = {
        "boxes": np.stack([one["boxes"] for one in objects]),
        "classes": np.stack([one["labels"] for one in objects]).astype("int32"),
        "sizes": np.array([image.shape[:2] for image in images], "int32"),
        "sample": np.arange(len(images)),
    }
    target = "masks" if "masks" in objects[0] else "keypoints"
    batch[target] = np.stack([one[target] for one in objects])
    batch["is_crowd"] = np.zeros_like(batch["classes"], bool)
    batch = {name: tf.constant(value) for name, value in batch.items()}

    @tf.function
    def step():
        inputs = tf.stack([model.preprocess(x) for x in tf.unstack(pixels)])
        with tf.GradientTape() as tape:
            terms = compute_losses(model, batch | {"images": inputs}, config, seed=0)
            parts = [
                tf.reduce_sum(sums) / tf.maximum(tf.reduce_sum(counts), 1)
                for sums, counts in terms.values()
            ]
            loss = tf.add_n(parts)
        gradients = tape.gradient(loss, model.trainable_variables)
        apply_global_gradients(optimizer, model, gradients, config=decay)
        return loss

    return lambda: float(step())


def _model(network, image):
    short, long = sorted(image.shape[:2])
    model = CLASSES[network](min_size=short, max_size=long)
    keras_nonlocal.convert.load_weights(model, detection_networks.read(network))
    return model
