import pytest

from keras_nonlocal.models import ARCHITECTURES, build

SMALL = {"depth": 14, "num_classes": 3, "width": 4, "input_shape": (8, 32, 32, 3)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_builds_what_the_function_of_that_name_builds(name):
    options = SMALL | {"non_local": {"res3": [0]}, "convention": "mmaction2"}
    expected = ARCHITECTURES[name](**options)
    built = build(name, **options)
    assert built.name == name
    assert built.get_config() == expected.get_config()


def test_the_model_may_have_a_name_of_its_own():
    assert build("c2d", name="mine", **SMALL).name == "mine"


def test_a_temporal_kernel_belongs_to_i3d():
    model = build("i3d", temporal_kernel="3x3x3", **SMALL)
    assert model.get_layer("res2_0_branch2b").kernel_size == (3, 3, 3)
    for name in ARCHITECTURES:
        without = build(name, temporal_kernel=None, **SMALL)
        assert without.get_config() == build(name, **SMALL).get_config()
    with pytest.raises(ValueError, match="C2D has no temporal kernels.*'3x1x1'"):
        build("c2d", temporal_kernel="3x1x1", **SMALL)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="`architecture` of build.*mean 'i3d'"):
        build("i3", **SMALL)
    with pytest.raises(TypeError, match="no_such_option"):
        build("c2d", no_such_option=1, **SMALL)
