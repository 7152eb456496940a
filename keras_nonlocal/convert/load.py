"""Weights from elsewhere into a model of ours."""

import dataclasses
import os
from collections.abc import Mapping

import keras

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.plan import make_plan
from keras_nonlocal.convert.sources import identify
from keras_nonlocal.convert.sources.own_config import content_of


def load_weights(model, path_or_dict, source="auto", strict=True, skip_head=False):
    """Loads the weights that another project trained.

    Everything is checked before anything is changed: a model that raises is as it
    was.

    Args:
        model: A built `C2D` or `I3D`.
        path_or_dict: A file, or what it would hold: a dict of arrays by the
            source's names, or a Keras model (of ours, of `keras.applications` or of
            KerasHub).
        source: Name of the source, or `"auto"`: found by the names.
        strict: Whether weights that are missing, unexpected or of another shape, and
            a model of another convention, are errors. Otherwise what fits is
            loaded, and the report tells the rest.
        skip_head: Leave the classifier `pred` as it is.

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
        path_or_dict = content_of(path_or_dict)
    if isinstance(path_or_dict, Mapping):
        return _load(model, path_or_dict, source, strict, skip_head)
    if not isinstance(path_or_dict, str | os.PathLike):
        raise TypeError(
            "load_weights needs the path of a file, a dict of arrays by name, or a "
            f"Keras model. Received: {path_or_dict!r}."
        )
    path = os.fspath(path_or_dict)
    content = read_checkpoint(path).content
    try:
        return _load(model, content, source, strict, skip_head)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load {path!r}. {error}") from error


def _load(model, content, source, strict, skip_head):
    source, state = identify(content, source)
    _check_arrays(source, state)
    demands = source.demands(state, content)
    values, report = make_plan(model, source, state, demands, skip_head)
    departures = tuple(source.departures(model, content))
    report = dataclasses.replace(report, convention=report.convention + departures)
    if strict:
        report.raise_if_wrong()
    elif not report.matched:
        raise CheckpointError(f"Nothing fits, and nothing was loaded.\n{report}")
    for variable, value in values:
        variable.assign(value)
    return report


def _check_arrays(source, state):
    """Lists of numbers are no arrays: left out, they would seem to be missing."""
    for name, value in state.items():
        if isinstance(value, list | tuple) and source.translate(str(name)):
            raise CheckpointError(
                f"{name!r} holds a {type(value).__name__}, and not an array: make it "
                "one by numpy.asarray."
            )
