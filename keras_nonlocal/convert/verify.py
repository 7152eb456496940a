"""Whether a converted network computes what the project's own does."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.reference import NAMES, Network, details_of

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Verification:
    """How far two networks are apart, from stage to stage.

    Attributes:
        differences: |a - b| / |b| in the Euclidean norm of the maps of each stage and
            of the logits, `"pred"`. The last counts; the others show where two
            networks part.
        largest_exponent: In the blocks' softmax, either sign. float32 rounds a large
            one by more than the tolerance.
    """

    differences: dict[str, float]
    largest_exponent: float = 0.0

    @property
    def difference(self):
        """Of the logits, or of the features if the classifier is a new one."""
        return list(self.differences.values())[-1]

    @property
    def ok(self):
        """Whether it is within the tolerance; NaN is not."""
        return self.difference <= TOLERANCE

    @property
    def is_saturated(self):
        """Whether the rounding of exponents alone can exceed the tolerance."""
        rounding = np.finfo("float32").eps * self.largest_exponent
        return bool(10 * rounding > TOLERANCE)

    def __str__(self):
        *stages, (last, _) = self.differences.items()
        before = ", ".join(f"{name} {x:.1e}" for name, x in stages)
        return (
            f"relative difference from the source's own formulas {self.difference:.1e} "
            f"in {last}, at most {TOLERANCE:.0e} expected (after {before})"
        ) + ("" if self.ok or not self.is_saturated else self._saturation())

    def _saturation(self):
        return (
            ". A softmax of its non-local blocks is saturated: exponents reach "
            f"{self.largest_exponent:.1e}, which float32 rounds by more than networks "
            "may differ. The weights may be right: without verification they are "
            "written, to be tested on real clips"
        )


def verify(model, state, source, arguments, skip_head=False):
    """Runs a seeded clip through a model and through the project's formulas.

    Args:
        model: C2D or I3D with a static input shape.
        state: Dict of arrays by the source's names, prepared.
        source: Name of the source.
        arguments: `"model"` and the arguments it was built with.
        skip_head: The classifier is not the file's.

    Returns:
        `Verification`.

    Raises:
        CheckpointError: There are no formulas for this source.
    """
    network = _network(state, source, arguments)
    clip = np.random.default_rng(0).normal(size=model.input_shape[1:])
    with np.errstate(all="ignore"):  # what is not finite fails below
        expected = network.run(clip.astype("float32"))
    if skip_head:
        expected.pop("pred", None)
    outputs = [model.get_layer(name).output for name in expected]
    actual = keras.Model(model.input, outputs)(clip[None], training=False)
    return Verification(
        {
            name: _difference(ops.convert_to_numpy(value)[0], expected[name])
            for name, value in zip(expected, actual, strict=True)
        },
        network.largest_exponent,
    )


def can_verify(source):
    """Whether there are formulas for a source."""
    return source in NAMES


def _network(state, source, arguments):
    if not can_verify(source):
        raise CheckpointError(
            f"There is no reference for weights of {source!r} to verify against; "
            f"there are for {tuple(NAMES)}."
        )
    options = arguments["non_local_options"]
    return Network(
        state,
        NAMES[source],
        details_of(arguments["convention"], arguments["model"]),
        temporal_kernel=arguments.get("temporal_kernel"),
        stride=2 if arguments["stem"] == "32x2" else 1,
        mode=options.get("mode", "embedded_gaussian"),
        scales=options.get("use_scale"),
        pools_keys=options.get("sub_sample"),
    )


def _difference(actual, expected):
    if actual.shape != expected.shape:
        return float("inf")
    actual, expected = actual.astype("float64"), expected.astype("float64")
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return float("nan")
    with np.errstate(all="ignore"):  # 0 / 0
        return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
