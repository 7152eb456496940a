"""`read_weights`: nested dicts of arrays, whatever file they lie in."""

import pathlib

from keras_nonlocal.convert.files.archives import ZipArchive
from keras_nonlocal.convert.files.budget import Budget
from keras_nonlocal.convert.files.checkpoint import explained, read_checkpoint
from keras_nonlocal.convert.files.hdf5 import read_hdf5
from keras_nonlocal.convert.files.json_text import read_json
from keras_nonlocal.convert.files.tf_checkpoint import read_tf_checkpoint


def read_weights(path):
    """What a checkpoint file of any kind holds.

    As `read_checkpoint`, with the weights of `.keras` archives and of `tf.train`
    checkpoints, which are read here too: without building the model that an archive
    describes, and without TensorFlow.

    Args:
        path: File, or the prefix of a `tf.train` checkpoint.

    Raises:
        CheckpointError: As `read_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.format not in READERS:
        return checkpoint.content
    with explained(path):
        return READERS[checkpoint.format](checkpoint.content)


def read_keras(path):
    """A `.keras` archive: `"model"`, by the names of its layers, and its `"config"`."""
    data = pathlib.Path(path).read_bytes()
    budget = Budget(len(data))
    archive = ZipArchive(data, budget)
    config = archive.copy("config.json")
    return {
        "model": read_hdf5(archive.copy("model.weights.h5"), budget),
        "config": read_json(config, budget),
    }


READERS = {"keras": read_keras, "tf_checkpoint": read_tf_checkpoint}
