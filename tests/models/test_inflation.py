import pytest

from keras_nonlocal.models.inflation import NO_INFLATION, i3d_inflation

# Released code, resnet_video.py: 1 where a block reaches over time.
RES_2_3_5 = {"res2": [1, 1, 1], "res3": [1, 0, 1, 0], "res5": [0, 1, 0]}
R50 = RES_2_3_5 | {"res4": [1, 0, 1, 0, 1, 0]}
R101 = RES_2_3_5 | {"res4": [1, 0] * 11 + [1]}


@pytest.mark.parametrize("lists", [R50, R101])
@pytest.mark.parametrize(
    "temporal_kernel, inflated", [("3x1x1", (3, 1)), ("3x3x3", (1, 3))]
)
def test_i3d_inflates_the_released_blocks(lists, temporal_kernel, inflated):
    inflation = i3d_inflation(temporal_kernel)
    assert inflation.conv1 == 5
    for stage, flags in lists.items():
        expected = [inflated if flag else (1, 1) for flag in flags]
        assert [inflation.taps(stage, i) for i in range(len(flags))] == expected


def test_c2d_never_reaches_over_time():
    assert NO_INFLATION.conv1 == 1
    assert {NO_INFLATION.taps(s, i) for s in R101 for i in range(23)} == {(1, 1)}


def test_unknown_temporal_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"`temporal_kernel` of I3D.*mean '3x1x1'"):
        i3d_inflation("3x1")
