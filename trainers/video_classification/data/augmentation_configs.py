"""Settings of RandAugment, mixup and CutMix, by the Model Garden's field names.

All are off by default, as in the paper.
"""

import dataclasses
import math
from collections.abc import Sequence

from official.modeling import hyperparams

from trainers.core.errors import UserError, check_key

ONE_WAY = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
)
TWO_WAY = (
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "Rotate",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)
OPERATIONS = ONE_WAY + TWO_WAY


@dataclasses.dataclass
class RandAugmentConfig(hyperparams.Config):
    """RandAugment: operations drawn at random, one after another, for each clip.

    All frames of a clip undergo the same operations, with the same strength.

    Attributes:
        num_layers: Number of operations in a row. Each is drawn from the list, or is
            none.
        magnitude: Strength, above 0 and up to 10, see docs/data.md.
        translate_const: Pixels that `TranslateX` and `TranslateY` move a clip at
            magnitude 10.
        prob_to_apply: Probability of each operation; null: all are applied.
        exclude_ops: Operations that are never drawn.
    """

    num_layers: int = 2
    magnitude: float = 10.0
    translate_const: float = 10.0
    prob_to_apply: float | None = None
    exclude_ops: Sequence[str] = ()

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations to draw from."""
        return tuple(name for name in OPERATIONS if name not in self.exclude_ops)

    def check(self):
        """Raises `UserError` for settings that no clip can be augmented by."""
        for name in self.exclude_ops:
            check_key("aug_type.randaug.exclude_ops", name, OPERATIONS)
        ranges = {
            "num_layers": (1, math.inf),
            "magnitude": (1e-3, 10),
            "translate_const": (0, math.inf),
            "prob_to_apply": (0, 1),
        }
        _check_ranges(self, "aug_type.randaug", ranges)


@dataclasses.dataclass
class AugmentationConfig(hyperparams.OneOfConfig):
    """What is done to the pixels of a training clip once it is cut.

    Attributes:
        type: `randaug`, or null for nothing.
        randaug: See there.
    """

    type: str | None = None
    randaug: RandAugmentConfig = dataclasses.field(default_factory=RandAugmentConfig)

    @property
    def is_on(self) -> bool:
        """Whether any clips are augmented."""
        return self.type is not None

    def check(self):
        """Raises `UserError` for settings that no clip can be augmented by."""
        if self.is_on:
            check_key("aug_type.type", self.type, ("randaug",))
            self.get().check()


@dataclasses.dataclass
class MixupAndCutmixConfig(hyperparams.Config):
    """Mixes each training clip, and its labels, with another one.

    Samples 2k and 2k + 1 of the run are partners, so the batch of a host must be
    even. Each is mixed by numbers of its own, which depend on the seed and the
    sample's number alone, not on the number of replicas.

    Attributes:
        mixup_alpha: Mixup: the share of a clip's own pixels is drawn from
            Beta(mixup_alpha, mixup_alpha), see https://arxiv.org/abs/1710.09412.
            0: no mixup.
        cutmix_alpha: CutMix: a rectangle, in all frames, is taken from the other clip;
            its area is drawn from Beta(cutmix_alpha, cutmix_alpha), see
            https://arxiv.org/abs/1905.04899. 0: no CutMix.
        prob: Probability that a clip is mixed.
        switch_prob: Probability of CutMix, if neither of the two is off.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5

    @property
    def is_on(self) -> bool:
        """Whether any clips are mixed."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def check(self):
        """Raises `UserError` for numbers out of their range, or without effect."""
        alphas = dict.fromkeys(("mixup_alpha", "cutmix_alpha"), (0, math.inf))
        probabilities = dict.fromkeys(("prob", "switch_prob"), (0, 1))
        _check_ranges(self, "mixup_and_cutmix", alphas | probabilities)
        self._check_effect()

    def _check_effect(self):
        if self.is_on and not self.prob:
            raise UserError(
                "`mixup_and_cutmix.prob` is 0, so no clip would be mixed: set it above "
                "0, or set mixup_alpha and cutmix_alpha to 0 to mix none."
            )
        unused = [x for x in ("prob", "switch_prob") if getattr(self, x) != _OFF[x]]
        if unused and not self.is_on:
            raise UserError(
                f"`mixup_and_cutmix.{unused[0]}` has no effect while mixup_alpha and "
                "cutmix_alpha are 0: set one of them, such as mixup_alpha=0.8, or set "
                f"{unused[0]}={_OFF[unused[0]]}."
            )


_OFF = {x.name: x.default for x in dataclasses.fields(MixupAndCutmixConfig)}


def _check_ranges(config, key: str, ranges: dict[str, tuple[float, float]]):
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if value is not None and not (least <= value <= most and value < math.inf):
            upper = f" and at most {most}" if most < math.inf else ""
            raise UserError(
                f"`{key}.{name}` must be at least {least}{upper}. Received: {value}."
            )
