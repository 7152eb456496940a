"""Weights from elsewhere into a model of ours."""

import dataclasses
import os
from collections.abc import Mapping

import keras

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_weights
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
        ValueError: An unknown `source`; a model that is not built.
        CheckpointError: A file that cannot be read, names of no known source, or,
            if `strict`, a report with problems.

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
    path = os.fspath(path_or_dict)
    content = read_weights(path)
    try:
        return _load(model, content, source, strict, skip_head)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load {path!r}. {error}") from error


def _load(model, content, source, strict, skip_head):
    source, state = identify(content, source)
    demands = source.demands(state, content)
    values, report = make_plan(model, source, state, demands, skip_head)
    departures = tuple(source.departures(model, content))
    report = dataclasses.replace(report, convention=report.convention + departures)
    if strict:
        report.raise_if_wrong()
    for variable, value in values:
        variable.assign(value)
    return report
