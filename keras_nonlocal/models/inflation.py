"""The convolutions of a ResNet that extend over time."""

import dataclasses

from keras_nonlocal.validation import check_choice

# temporal_kernel -> taps in time of (branch2a, branch2b) in an inflated block.
TEMPORAL_KERNELS = {"3x1x1": (3, 1), "3x3x3": (1, 3)}


@dataclasses.dataclass(frozen=True)
class Inflation:
    """Taps in time of conv1, and of branch2a and branch2b where inflated.

    Attributes:
        conv1: Taps of the first convolution.
        block: Taps of (branch2a, branch2b) in an inflated block.
    """

    conv1: int = 1
    block: tuple[int, int] = (1, 1)

    def taps(self, stage, index):
        """Taps of (branch2a, branch2b) in residual block `index` of `stage`.

        All blocks of res2, the even ones of res3 and res4, the odd ones of res5.
        """
        is_inflated = stage == "res2" or index % 2 == (stage == "res5")
        return self.block if is_inflated else (1, 1)


# C2D: frames are combined in pooling and non-local blocks only.
NO_INFLATION = Inflation()


def i3d_inflation(temporal_kernel):
    """The I3D variants of the paper (Sec. 3.3): conv1 has 5 taps."""
    check_choice("temporal_kernel", temporal_kernel, TEMPORAL_KERNELS, owner="I3D")
    return Inflation(conv1=5, block=TEMPORAL_KERNELS[temporal_kernel])
