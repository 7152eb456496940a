"""`load_weights` as a user meets it: what it does, and refuses to do."""

import pathlib
import pickle

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal1D, NonLocal2D, NonLocal3D
from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D, I3D
from tests.convert import spelling
from tests.convert.networks import draw_state, numpy

CLIP = (4, 48, 48, 3)


def build(architecture=I3D, depth=26, classes=7, convention="pyslowfast", **options):
    options = {"non_local": {"res3": [0]}, "width": 4} | options
    return architecture(depth, classes, CLIP, convention=convention, **options)


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def state(model):
    return draw_state(model, spelling.pyslowfast)


def weights(model):
    return {weight.path: numpy(weight).copy() for weight in model.weights}


def assert_same(weights, others):
    assert weights.keys() == others.keys()
    for path, value in weights.items():
        np.testing.assert_array_equal(value, others[path], path)


def check_refused(model, content, message, **options):
    """An error that says `message`, and a model that is as it was."""
    before = weights(model)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_weights(model, content, **options)
    assert_same(weights(model), before)


def test_a_missing_weight_is_an_error(model, state):
    bias = "s3.pathway0_nonlocal0.conv_theta.bias"
    content = {name: x for name, x in state.items() if name != bias}
    check_refused(model, content, "missing +1  res3_0_nonlocal/theta/bias")


def test_an_unexpected_weight_is_an_error(model, state):
    content = state | {"s6.conv.weight": np.ones(3)}
    check_refused(model, content, "unexpected +1  s6.conv.weight")


def test_another_depth_is_named(state):
    message = (
        r"the weights have \(2, 2, 2, 2\) residual blocks in res2 to res5, the model "
        r"\(1, 1, 1, 1\).*Build the model with depth=26\. strict=False loads what fits"
    )
    check_refused(build(depth=14), state, message)
    message = r"the model \(3, 4, 6, 3\).*Build the model with depth=26\."
    check_refused(build(depth=50), state, message)


def test_another_number_of_classes_is_named(state):
    model = build(classes=5)
    message = (
        r"pred/bias \(5,\) <- head.projection.bias \(7,\).*num_classes=5, but the "
        "weights need num_classes=7.*skip_classifier=True leaves the classifier out"
    )
    check_refused(model, state, message)
    before = weights(model)
    report = load_weights(model, state, skip_classifier=True)
    after = weights(model)
    assert report.ok and report.new == ("pred/kernel", "pred/bias")
    for path in report.new:
        np.testing.assert_array_equal(after.pop(path), before.pop(path))
    assert all((after[path] != before[path]).any() for path in after)


def test_a_file_without_a_classifier_says_so(model, state):
    content = {name: x for name, x in state.items() if "head" not in name}
    check_refused(
        model, content, "the weights have no classifier.*skip_classifier=True leaves"
    )
    assert load_weights(build(), content, skip_classifier=True).ok


def test_a_model_without_classifier_ignores_the_files(state):
    report = load_weights(build(include_top=False), state)
    assert report.ignored == ("head.projection.weight", "head.projection.bias")


def test_kernels_of_a_c2d_do_not_fit_an_i3d(model, state):
    content = draw_state(build(C2D), spelling.pyslowfast)
    message = r"conv1/kernel \(5, 7, 7, 3, 4\) <- .* \(1, 7, 7, 3, 4\)"
    check_refused(model, content, f"{message}.*model='i3d', but .* model='c2d'")
    check_refused(build(C2D), state, "Build the model with model='i3d'")


def test_another_temporal_kernel_is_named(state):
    message = "temporal_kernel='3x3x3', but the weights need temporal_kernel='3x1x1'"
    check_refused(build(temporal_kernel="3x3x3"), state, message)


def test_another_width_is_named(state):
    message = "width=8, but the weights need width=4.*Build the model with width=4"
    check_refused(build(width=8), state, message)


def test_other_places_of_non_local_blocks_are_named(state):
    other = build(non_local={"res3": [1]})
    message = (
        r"non_local=\{'res3': \[1\]\}, but the weights need non_local=\{'res3': \[0\]\}"
    )
    check_refused(other, state, message)
    message = "non_local=None, but .*Build the model with non_local={'res3': "
    check_refused(build(non_local=0), state, message)


def test_another_mode_is_named(state):
    other = build(non_local_options={"mode": "gaussian"})
    message = (
        "res3_0_nonlocal has mode='gaussian', not 'embedded_gaussian or dot_product'"
        ".*non_local_options={'mode': 'embedded_gaussian'}"
    )
    check_refused(other, state, message)


@pytest.mark.parametrize(
    "convention, message",
    [
        ("video_nonlocal_net", "pool1 pads height and width by 0, not 1"),
        ("gluoncv", "res3_0_nonlocal has sub_sample=False, not True"),
        pytest.param(
            "mmaction2",
            "res3_0_nonlocal has pool_position='after', not 'before'",
            marks=pytest.mark.slow,
        ),
        pytest.param("paper", "pool2 looks at 3 frames, not 2", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_another_convention_gets_the_one_it_needs(
    state, convention, message
):
    options = {"use_output_bias": True}
    other = build(convention=convention, non_local_options=options)
    advice = r"Build the model with convention='pyslowfast'\."
    check_refused(other, state, f"{message}.*{advice}")
    report = load_weights(other, state, strict=False)
    assert message in map(str, report.problems) and len(report.matched) == len(state)
    assert {"convention": "pyslowfast"} in [x.fix for x in report.problems]


def test_one_option_of_the_same_convention_is_its_own_fix(state):
    other = build(non_local_options={"pool_position": "after"})
    advice = "Build the model with non_local_options={'pool_position': 'before'}"
    check_refused(other, state, f"has pool_position='after', not 'before'.*{advice}")


def test_what_does_not_matter_is_no_matter_of_convention():
    options = {"mode": "dot_product", "use_scale": False}
    model = build(non_local_options=options)
    assert load_weights(model, draw_state(model, spelling.pyslowfast)).ok


def test_non_local_blocks_added_to_a_trained_network_are_new():
    plain = build(non_local=0)
    state = draw_state(plain, spelling.pyslowfast)
    load_weights(plain, state)
    model = build(non_local={"res3": [0], "res4": [1]})
    report = load_weights(model, state)
    assert {path.split("/")[0] for path in report.new} == {
        "res3_0_nonlocal",
        "res4_1_nonlocal",
    }
    assert not report.notes
    clips = np.random.default_rng(0).normal(size=(1, *CLIP))
    np.testing.assert_array_equal(numpy(model(clips)), numpy(plain(clips)))


def test_blocks_are_added_beside_those_of_the_weights():
    old = build()
    state = draw_state(old, spelling.pyslowfast)
    load_weights(old, state)
    model = build(non_local={"res3": [0, 1], "res4": [1]})
    report = load_weights(model, state)
    assert report.new_blocks == ("res3_1_nonlocal", "res4_1_nonlocal")
    clips = np.random.default_rng(0).normal(size=(1, *CLIP))
    np.testing.assert_array_equal(numpy(model(clips)), numpy(old(clips)))


def test_blocks_in_other_places_are_no_new_ones(state):
    with pytest.raises(CheckpointError, match="non_local={'res3': \\[0\\]}"):
        load_weights(build(non_local={"res3": [1]}), state)


@pytest.mark.parametrize("normalization", ["batch", None])
def test_new_blocks_that_are_no_identity_are_noted(normalization):
    state = draw_state(build(non_local=0), spelling.pyslowfast)
    model = build(non_local_options={"normalization": normalization})
    block = model.get_layer("res3_0_nonlocal")
    last = block.norm.gamma if normalization else block.w_z.kernel
    assert "identity" not in str(load_weights(model, state))
    last.assign(np.ones(last.shape))
    message = "res3_0_nonlocal is new, and does not start as an identity"
    assert message in map(str, load_weights(model, state).notes)


def test_without_strict_what_fits_is_loaded(state):
    model = build(classes=5)
    before = weights(model)
    content = {name: x for name, x in state.items() if "stem.conv" not in name}
    report = load_weights(model, content | {"x": np.ones(1)}, strict=False)
    assert not report.ok
    assert report.missing == ("conv1/kernel",) and report.unexpected == ("x",)
    shapes = [x.weight for x in report.problems if x.kind == "shape"]
    assert shapes == ["pred/kernel", "pred/bias"]
    after = weights(model)
    untouched = {"conv1/kernel", "pred/kernel", "pred/bias"}
    assert untouched == {p for p in after if (after[p] == before[p]).all()}


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_floats_become_float32(model, state, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = getattr(ml_dtypes, dtype, dtype)
    load_weights(model, {name: x.astype(dtype) for name, x in state.items()})
    for weight in model.weights:
        theirs = state[spelling.pyslowfast(weight.path)].astype(dtype)
        assert weight.dtype == "float32"
        assert np.isclose(
            numpy(weight).sum(), theirs.astype("float64").sum(), atol=1e-2
        )
    bias = state["head.projection.bias"].astype(dtype).astype("float32")
    np.testing.assert_array_equal(numpy(model.get_layer("pred").bias), bias)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_reported(model, state, value):
    name = "s2.pathway0_res1.branch2.b_bn.running_var"
    array = state[name].copy()
    array[1] = value
    check_refused(model, state | {name: array}, f"not finite +1  {name}")
    before = weights(model)
    report = load_weights(model, state | {name: array}, strict=False)
    assert [(x.kind, x.name) for x in report.problems] == [("not finite", name)]
    path = "res2_1_branch2b_bn/moving_variance"
    np.testing.assert_array_equal(weights(model)[path], before[path])


def test_a_double_too_large_for_a_float_is_not_finite(model, state):
    array = np.full(7, 1e300)
    check_refused(model, state | {"head.projection.bias": array}, "not finite +1  head")


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array(["a"] * 7), "holds <U1, not numbers"),
        (np.array([None] * 7), "holds object, not numbers"),
        (np.zeros((7, 1, 2)), "another kind of layer"),
        (np.zeros(()), "another kind of layer"),
    ],
)
def test_arrays_of_anything_else_do_not_fit(model, state, array, message):
    check_refused(model, state | {"head.projection.bias": array}, message)


@pytest.mark.backends
def test_pytorchs_own_tensors_load(model, state):
    import torch

    content = {
        name: torch.nn.Parameter(torch.tensor(x).bfloat16())
        for name, x in state.items()
    }
    load_weights(model, content)
    bias = content["head.projection.bias"].detach().float().numpy()
    np.testing.assert_array_equal(numpy(model.get_layer("pred").bias), bias)


def test_a_file_loads_as_its_dict_does(model, state, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"epoch": 3, "model_state": state}, protocol=2))
    load_weights(model, path)
    expected = weights(model)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    assert load_weights(model, str(path), source="pyslowfast").ok
    load_weights(model, state)
    assert_same(weights(model), expected)


def test_an_error_names_the_file(model, state, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(state | {"x.y": np.zeros(2)}, protocol=2))
    message = rf"Cannot load {str(path)!r}. The weights do not fit, .* unexpected +1"
    check_refused(model, path, message)


def test_a_dict_that_holds_itself_ends(model):
    content = {}
    content["state_dict"] = content
    check_refused(model, content, "None of the 1 names")


def test_a_variance_keeps_its_sum_with_another_epsilon():
    options = {"normalization_options": {"epsilon": 1e-3}}
    model = build(non_local_options=options)
    state = draw_state(model, spelling.pyslowfast)
    load_weights(model, state)
    ours = numpy(model.get_layer("res3_0_nonlocal").norm.moving_variance) + 1e-3
    theirs = state["s3.pathway0_nonlocal0.bn.running_var"] + 1e-5
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("thing", [NonLocal3D(), None, "model.keras", C2D])
def test_what_is_no_built_model_is_refused(thing, state):
    with pytest.raises(ValueError, match="needs a model, or a layer, that has been b"):
        load_weights(thing, state)


def alexhex7_cases():
    path = pathlib.Path(__file__).parents[1] / "parity" / "alexhex7.npz"
    with np.load(path) as file:
        return {name: file[name] for name in file}


@pytest.mark.parametrize("mode", ["gaussian", "concatenation"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_single_block_loads_alexhex7s(mode, rank):
    prefix = f"{mode}/{rank}/True/True/"
    case = {
        name.removeprefix(prefix): array
        for name, array in alexhex7_cases().items()
        if name.startswith(prefix)
    }
    content = {n.split("/")[1]: x for n, x in case.items() if n.startswith("weight/")}
    x = np.moveaxis(case["x"], 1, -1)
    options = {"mode": mode, "pool_position": "after", "use_scale": False}
    layer = (NonLocal1D, NonLocal2D, NonLocal3D)[rank - 1](**options)
    layer.build(x.shape)
    report = load_weights(layer, content)
    assert report.source == "alexhex7" and len(report.matched) == len(layer.weights)
    np.testing.assert_allclose(
        numpy(layer(x)), np.moveaxis(case["y"], 1, -1), rtol=1e-4, atol=1e-5
    )


def test_a_single_block_that_pools_first_is_refused():
    layer = NonLocal3D(use_scale=False)
    layer.build((None, 4, 8, 8, 6))
    state = draw_state(layer, lambda path: path)
    names = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    content = {}
    for path, array in state.items():
        part, kind = path.split("/")
        part = {"w_z": "W.0", "norm": "W.1", "g": "g.0", "phi": "phi.0"}.get(part, part)
        kind = names.get(kind) or spelling.TORCH_BN[kind]
        content[f"{part}.{kind}"] = array
    message = "pool_position='before', not 'after'.*Build .* with pool_position='after'"
    check_refused(layer, content, message)


def test_works_with_a_saved_and_loaded_model(state, tmp_path):
    path = tmp_path / "model.keras"
    build().save(path)
    model = keras.models.load_model(path)
    assert load_weights(model, state).ok
    assert model.get_layer("res3_0_nonlocal").pool_position == "before"


# === Networks within a model ===


def _within_functional(network):
    clip = keras.Input(CLIP)
    return keras.Model(clip, network(clip))


def _within_sequential(network):
    return keras.Sequential([network])


def _within_two(network):
    return _within_functional(_within_sequential(network))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(_within_functional, marks=pytest.mark.slow),
        pytest.param(_within_sequential, marks=pytest.mark.slow),
        _within_two,
    ],
)
def test_a_network_within_a_model_is_checked_as_it_would_be_alone(wrap, state):
    other = wrap(build(convention="mmaction2", non_local_options={"use_bias": True}))
    check_refused(other, state, "res3_0_nonlocal has pool_position='after', not 'bef")
    network = build()
    load_weights(wrap(network), state)
    alone = build()
    load_weights(alone, state)
    assert_same(weights(network), weights(alone))


def test_two_networks_in_one_model_are_refused(state):
    networks = [build(name=name) for name in "ab"]
    clip = keras.Input(CLIP)
    both = keras.Model(clip, keras.layers.Average()([x(clip) for x in networks]))
    before = [weights(network) for network in networks]
    for model, content in ((both, state), (networks[0], both)):
        with pytest.raises(ValueError, match="2 weights of the name 'conv1/kernel'"):
            load_weights(model, content, strict=False)
    for network, values in zip(networks, before, strict=True):
        assert_same(weights(network), values)
    for network in networks:
        load_weights(network, state)
    assert_same(*map(weights, networks))


# === Numbers that a weight cannot compute with ===


def test_numbers_too_large_for_the_models_floats_do_not_fit(state):
    name = "head.projection.weight"
    content = state | {name: np.full_like(state[name], 7e4)}
    keras.config.set_dtype_policy("float16")
    try:
        half = build()
    finally:
        keras.config.set_dtype_policy("float32")
    check_refused(
        half, content, "pred/kernel .* numbers up to 7e.04, too large for float16"
    )
    assert load_weights(build(), content).ok
    load_weights(half, state)
    expected = state["head.projection.bias"].astype("float16")
    np.testing.assert_array_equal(numpy(half.get_layer("pred").bias), expected)


@pytest.mark.parametrize("value, fits", [(-1e-5, False), (-3.0, False), (0.0, True)])
def test_variances_without_a_square_root_do_not_fit(model, state, value, fits):
    name = "s1.pathway0_stem.bn.running_var"
    variances = state[name].copy()
    variances[1] = value
    content = state | {name: variances}
    if fits:
        network = build()
        load_weights(network, content)
        ours = numpy(network.get_layer("conv1_bn").moving_variance)
        np.testing.assert_array_equal(ours, variances)
    else:
        message = f"conv1_bn/moving_variance .* a variance of {value:.3g}, which has no"
        check_refused(model, content, message)


# === What is no weights ===


@pytest.mark.parametrize("content", [None, 3, [np.zeros(3)], b"weights.pth"])
def test_what_is_no_file_is_refused(model, content):
    with pytest.raises(TypeError, match="needs the path of a file, a dict .* Received"):
        load_weights(model, content)


@pytest.mark.parametrize("strict", [True, False])
def test_lists_are_no_arrays(model, state, strict):
    name = "head.projection.bias"
    message = f"'{name}' holds a list, and not an array: make it one by numpy.asarray"
    check_refused(model, state | {name: [0.0] * 7}, message, strict=strict)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {b"model_state": x}])
def test_names_of_bytes_are_refused(model, state, wrap):
    content = {name.encode(): array for name, array in state.items()}
    check_refused(model, wrap(content), r"The names are bytes. .* by \{name.decode\(\)")


def test_without_strict_something_must_fit(state):
    clip = keras.Input((3,))
    other = keras.Model(clip, keras.layers.Dense(2)(clip))
    message = "Nothing fits, and nothing was loaded.*matched +0"
    check_refused(other, state, message, strict=False)
