"""Loads weights of other projects into a model."""

import os
from collections.abc import Mapping

import keras
from keras import ops

from keras_nonlocal.convert.errors import CheckpointError, located
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.inference import configs_of
from keras_nonlocal.convert.matching import match
from keras_nonlocal.convert.reading import read_content
from keras_nonlocal.convert.targets import check_paths


def load_weights(
    model, path_or_dict, source="auto", strict=True, skip_classifier=False, epsilon=None
):
    """Loads the weights that another project trained.

    Everything is checked before anything is changed: a model that raises is as it
    was.

    Args:
        model: A built `C2D`, `I3D`, `MaskRCNN` or `KeypointRCNN`, or a single non-local
            block.
        path_or_dict: A file, or what it would hold: a dict of arrays by the
            source's names, or a Keras model (of ours, of `keras.applications` or of
            KerasHub).
        source: Name of the source, or `"auto"`: found by the names.
        strict: Whether weights that are missing, unexpected or of another shape, and
            a model that computes otherwise, are errors. Otherwise what fits is
            loaded, and the report has the rest.
        skip_classifier: Leave the layers whose sizes follow from the classes as they
            are: `pred`; of detectors those that give classes, boxes, masks and
            keypoints.
        epsilon: Of the batch normalisation that the weights were trained with, which
            no file shows. None: that of the source. torchvision's first COCO weights
            (`MaskRCNN_ResNet50_FPN_Weights.COCO_V1`) need 0.0.

    Returns:
        `Report`: what became of every weight.

    Raises:
        TypeError: Neither a file nor what it would hold.
        ValueError: An unknown `source`; a model that is not built, or that holds
            several networks.
        CheckpointError: A file that cannot be read, names of no known source,
            nothing that fits, or, if `strict`, a report with problems.

    Example:
    >>> model = I3D(14, 10, (4, 64, 64, 3), width=8, convention="pyslowfast")
    >>> report = load_weights(
    ...     model, {"head.projection.bias": np.zeros(10)}, strict=False
    ... )
    >>> report.matched
    {'pred/bias': 'head.projection.bias'}
    >>> len(report.missing)
    86
    """
    if isinstance(path_or_dict, keras.Model):
        path_or_dict = _content_of(path_or_dict)
    if isinstance(path_or_dict, Mapping):
        weights = _read(path_or_dict, source, epsilon)
        return assign(model, weights, strict, skip_classifier)
    if not isinstance(path_or_dict, str | os.PathLike):
        raise TypeError(
            "load_weights needs the path of a file, a dict of arrays by name, or a "
            f"Keras model. Received: {path_or_dict!r}."
        )
    path = os.fspath(path_or_dict)
    content = read_checkpoint(path).content
    with located(f"Cannot load {path!r}."):
        weights = _read(content, source, epsilon)
        return assign(model, weights, strict, skip_classifier)


def assign(model, weights, strict=True, skip_classifier=False):
    """Puts `Weights` into a model, if they fit; returns the `Report`."""
    values, report = match(model, weights, skip_classifier)
    if strict:
        report.raise_if_wrong()
    elif not report.matched:
        message = "Nothing fits, and nothing was loaded."
        raise CheckpointError(message, report.problems, report)
    for variable, value in values:
        variable.assign(value)
    return report


def _read(content, source, epsilon):
    weights = read_content(content, source)
    return weights if epsilon is None else weights.with_epsilon(epsilon)


def _content_of(model):
    """A model as a `.keras` file of it would be read."""
    check_paths(model)
    configs = [{"config": config} for config in configs_of(model)]
    metadata = getattr(model, "metadata", None)
    return {
        "model": {x.path: ops.convert_to_numpy(x) for x in model.weights},
        "config": {"config": {"layers": configs, "metadata": metadata}},
    }
