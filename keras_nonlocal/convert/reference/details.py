"""What the projects' networks do differently between their layers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Details:
    """One project's formulas.

    Attributes:
        pool1: Window along (T, H, W) of the 32x2 stem; along T 1 in the other.
        pool1_pad: Of the same.
        pool2: Frames under the second pooling, and its padding.
        pools_keys: Keys are max-pooled by 2 in space.
        pools_first: They are before phi and g, not after.
        scales: The embedded Gaussian divides by sqrt(d).
    """

    pool1: tuple[int, int, int]
    pool1_pad: tuple[int, int, int]
    pool2: tuple[int, int] = (2, 0)
    pools_keys: bool = True
    pools_first: bool = True
    scales: bool = True


_PYSLOWFAST = Details((2, 3, 3), (0, 1, 1))
_MMACTION2 = Details((1, 3, 3), (0, 1, 1), pools_first=False, scales=False)

_DETAILS = {
    ("video_nonlocal_net", "c2d"): Details((2, 3, 3), (0, 0, 0)),
    ("video_nonlocal_net", "i3d"): Details((2, 3, 3), (0, 0, 0)),
    ("pyslowfast", "c2d"): _PYSLOWFAST,
    ("pyslowfast", "i3d"): _PYSLOWFAST,
    ("mmaction2", "c2d"): dataclasses.replace(_MMACTION2, pool1_pad=(0, 0, 0)),
    ("mmaction2", "i3d"): _MMACTION2,
    ("gluoncv", "c2d"): Details((1, 3, 3), (0, 1, 1), pools_keys=False),
    ("gluoncv", "i3d"): Details((1, 3, 3), (0, 1, 1), pools_keys=False),
}
for _model in ("c2d", "i3d"):  # Table 1 of the paper
    _DETAILS["paper", _model] = Details(
        (3, 3, 3), (1, 1, 1), pool2=(3, 1), pools_first=False, scales=False
    )


def details_of(convention, model):
    """The `Details` of a convention's C2D or I3D."""
    return _DETAILS[convention, model]
