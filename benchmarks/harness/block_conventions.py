"""Where implementations of the block differ."""

from typing import NamedTuple

from harness.op_subjects import MODES


class Convention(NamedTuple):
    modes: tuple
    pools_before: bool  # phi and g, or after them
    scales: bool  # the embedded Gaussian's exponent by d^-1/2
    output_bias: bool  # in W_z


CONVENTIONS = {
    "PySlowFast": Convention(("embedded_gaussian", "dot_product"), True, True, True),
    "AlexHex7": Convention(MODES, False, False, True),
    "mmcv": Convention(MODES, False, True, False),
}
