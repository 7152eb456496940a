"""What data settings can be, told before anything is decoded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.views import check_view_settings

if TYPE_CHECKING:
    from trainers.video_classification.configs import ClipConfig, DataConfig

# Of the fields that `DataConfig` has from the Model Garden's.
_APPLY = frozenset(
    "input_path global_batch_size is_training cache deterministic drop_remainder seed "
    "prefetch_buffer_size".split()
)
_APPLY_AT_TEST = frozenset(("cache", "drop_remainder"))


def check_settings(data: DataConfig, clip: ClipConfig) -> None:
    """Checks all that batches, or the views of one video, are made from.

    Raises:
        DataError: A value that cannot be, or one that would have no effect.
    """
    check_view_settings(data, clip)
    _check_pixels("mean", clip.mean, -math.inf)
    _check_pixels("std", clip.std, 0)
    if not 0 <= data.max_broken_fraction <= 1:  # NaN is refused, too
        raise DataError(
            "`max_broken_fraction` must be from 0 to 1. Received: "
            f"{data.max_broken_fraction}."
        )
    if data.num_parallel_decodes < 0:
        raise DataError(
            "`num_parallel_decodes` must be at least 1, or 0 for one per CPU core. "
            f"Received: {data.num_parallel_decodes}."
        )
    if data.frame_cache and data.decoder != "pyav":
        raise DataError(
            "`frame_cache` is filled by `decoder: pyav`. Received: "
            f"{data.decoder!r}; leave one of them as it was."
        )
    _check_no_effect(data)


def _check_pixels(name: str, values: Sequence[float] | None, above: float) -> None:
    if values is None:  # the convention's
        return
    fits = isinstance(values, Sequence) and len(values) == 3
    if not fits or not all(_is_number(v) and above < v < math.inf for v in values):
        positive = "positive " if above == 0 else ""
        raise DataError(
            f"`clip.{name}` must be three {positive}numbers, for R, G and B on a "
            f"0-255 scale. Received: {values!r}."
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float)


def _check_no_effect(data: DataConfig) -> None:
    own, default = set(type(data).__annotations__), type(data)()
    applies = own | _APPLY - (_APPLY_AT_TEST if data.is_training else set())
    for field in dataclasses.fields(data):
        value, kept = getattr(data, field.name), getattr(default, field.name)
        if field.name not in applies and value != kept:
            when = " in training" if field.name in _APPLY_AT_TEST else ""
            raise DataError(
                f"`{field.name}` has no effect here{when}: leave it at {kept!r}. "
                f"Received: {value!r}."
            )
