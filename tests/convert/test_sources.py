"""Each source's names and layout: every weight by value, and the logits."""

import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.convert.reading import read_content
from keras_nonlocal.convert.sources import SOURCES
from keras_nonlocal.models import C2D, I3D
from tests.convert import spelling
from tests.convert.files.limits import limited
from tests.convert.networks import TorchNetwork, draw_state, numpy

CLIP = (8, 48, 48, 3)
PLACES = {"res2": [0], "res3": [0], "res4": [1]}
UNPADDED = ((1, 3, 3), (1, 2, 2), (0, 0, 0))
PADDED = ((1, 3, 3), (1, 2, 2), (0, 1, 1))
HALVING = ((1, 3, 3), (2, 2, 2), (0, 1, 1))  # in time too
VIDEO_SOURCES = {
    "video_nonlocal_net": (spelling.video_nonlocal_net, {"pool1": UNPADDED}),
    "pyslowfast": (spelling.pyslowfast, {"pool1": PADDED}),
    "mmaction2": (
        spelling.mmaction2,
        {"pool1": HALVING, "stride": 2, "pool_position": "after", "scaled": False},
    ),
    "gluoncv": (
        spelling.gluoncv,
        {"pool1": HALVING, "stride": 2, "pool_position": None},
    ),
}
LONG_STEMS = {("mmaction2", I3D), ("gluoncv", I3D)}


def build(convention, architecture=I3D, depth=26, clip=CLIP, non_local=None, **options):
    return architecture(
        depth,
        7,
        clip,
        width=4,
        non_local=PLACES if non_local is None else non_local,
        convention=convention,
        **{"stem": "32x2" if (convention, architecture) in LONG_STEMS else "8x8"}
        | options,
    )


def assert_logits(model, network):
    clips = np.random.default_rng(1).normal(size=(2, *model.input_shape[1:]))
    clips = clips.astype("float32")
    expected = network(clips)
    assert np.abs(numpy(model(clips)) - expected).max() < 1e-5 * np.abs(expected).max()
    assert expected.std() > 0.1


@pytest.mark.backends
@pytest.mark.parametrize("name", VIDEO_SOURCES)
def test_logits_are_the_projects(name):
    spell, options = VIDEO_SOURCES[name]
    model = build(name)
    state = draw_state(model, spell)
    report = load_weights(model, state)
    assert report.source == name
    assert report.ok and set(report.matched.values()) == set(state)
    assert_logits(model, TorchNetwork(state, spell, **options))


@pytest.mark.parametrize("name", VIDEO_SOURCES)
def test_every_weight_lands_on_its_own(name):
    spell, _ = VIDEO_SOURCES[name]
    model = build(name, depth=50, non_local=5)
    state = draw_state(model, spell)
    load_weights(model, state)
    for variable in model.weights:
        theirs = state[spell(variable.path)]
        if len(variable.shape) == 5:
            theirs = np.einsum("oithw->thwio", theirs)
        elif len(variable.shape) == 2:
            theirs = theirs.reshape(theirs.shape[:2]).T
        np.testing.assert_array_equal(numpy(variable), theirs, variable.path)


def test_blocks_of_two_digits():
    model = build("video_nonlocal_net", C2D, depth=101, non_local=5)
    state = draw_state(model, spelling.video_nonlocal_net)
    assert "res4_22_branch2a_w" in state and "nonlocal_conv4_20_theta_w" in state
    load_weights(model, state)
    kernel = numpy(model.get_layer("res4_20_nonlocal").theta.kernel)
    theirs = state["nonlocal_conv4_20_theta_w"]
    np.testing.assert_array_equal(kernel, theirs[:, :, 0, 0, 0].T)


def test_caffe2_blobs_with_what_training_saves():
    model = build("video_nonlocal_net", C2D, depth=14, non_local={"res3": [0]})
    state = draw_state(model, spelling.video_nonlocal_net)
    blobs = {**state, **{f"{name}_momentum": x for name, x in state.items()}}
    blobs |= {"lr": np.float32(0.1), "model_iter": np.array([7]), "note": "text"}
    report = load_weights(model, {"blobs": blobs})
    assert report.ok and len(report.matched) == len(state)
    assert len(report.ignored) == len(state) + 2


@pytest.mark.backends
def test_caffe2_blobs_of_pyslowfasts_zoo_keep_its_convention():
    model = build("pyslowfast", C2D, depth=14, non_local={"res3": [0]})
    state = draw_state(model, spelling.video_nonlocal_net)
    with pytest.raises(CheckpointError, match="needs source='pyslowfast_caffe2'"):
        load_weights(model, state)
    assert load_weights(model, state, source="pyslowfast_caffe2").ok
    assert_logits(model, TorchNetwork(state, spelling.video_nonlocal_net, PADDED))


def affine(state):
    """Running statistics folded away, as `convert_to_finetune.py` does it."""
    return {n: x for n, x in state.items() if not n.endswith(("_rm", "_riv"))}


@pytest.mark.backends
def test_affine_blobs_are_normalisation_by_nothing():
    options = {"normalization": None, "res3": {"group_size": 2}}
    model = build("video_nonlocal_net", clip=(8, 48, 48, 3), non_local_options=options)
    state = affine(draw_state(model, spelling.video_nonlocal_net))
    # The released networks are for 16 frames in res3; this one has 4.
    report = load_weights(model, state, strict=False)
    [problem] = report.problems
    assert str(problem) == "res3_0_nonlocal has group_size=2, not 4"
    assert problem.fix == {"non_local_options": {"res3": {"group_size": 4}}}
    assert "no running statistics" in str(report)
    assert not report.missing and not report.unexpected
    network = TorchNetwork(
        state, spelling.video_nonlocal_net, UNPADDED, groups={"res3": 2}
    )
    assert_logits(model, network)


@pytest.mark.backends
def test_affine_blobs_fit_a_model_that_normalises_after_w_z():
    options = {"res3": {"group_size": 4}}
    clip = (8, 48, 48, 3)
    model = build("video_nonlocal_net", clip=clip, non_local_options=options)
    state = affine(draw_state(model, spelling.video_nonlocal_net))
    for name in list(state):
        if name.startswith("nonlocal_") and "_bn_" in name:
            del state[name]
    report = load_weights(model, state)
    assert report.filled["res3_0_nonlocal/norm/gamma"] == 1
    network = TorchNetwork(
        state, spelling.video_nonlocal_net, UNPADDED, groups={"res3": 4}
    )
    assert_logits(model, network)


def test_one_running_statistic_too_few_is_missing_not_affine():
    model = build("video_nonlocal_net", C2D, depth=14, non_local={"res3": [0]})
    state = draw_state(model, spelling.video_nonlocal_net)
    del state["res3_0_branch2a_bn_riv"]
    with pytest.raises(CheckpointError, match="missing .* res3_0_branch2a_bn/moving_v"):
        load_weights(model, state)


def sub_bn(state, keep_aggregated=True):
    """PySlowFast's `SubBatchNorm3d` with two splits, by its own names."""
    split = {}
    for name, array in state.items():
        prefix, dot, kind = name.rpartition(".")
        if not kind.startswith("running_"):
            split[name] = array
            continue
        if keep_aggregated:
            split[f"{prefix}.bn.{kind}"] = array
        change = np.linspace(0.1, 0.3, len(array), dtype="float32")
        halves = [array - change, array + change]
        if kind == "running_var":  # which gains the variance of the means
            halves = [half - change**2 for half in halves]
        split[f"{prefix}.split_bn.{kind}"] = np.concatenate(halves)
        split[f"{prefix}.split_bn.num_batches_tracked"] = np.array(7)
    return split


@pytest.mark.parametrize("keep_aggregated", [True, False])
def test_pyslowfast_with_split_batch_normalisation(keep_aggregated):
    model = build("pyslowfast", C2D, depth=14, non_local={"res3": [0]})
    state = draw_state(model, spelling.pyslowfast)
    split = sub_bn(state, keep_aggregated)
    assert "s3.pathway0_res0.branch2.a_bn.split_bn.running_var" in split
    report = load_weights(model, {"model_state": split})
    assert report.ok
    for variable in model.weights:
        if variable.name.startswith("moving_"):
            theirs = state[spelling.pyslowfast(variable.path)]
            np.testing.assert_allclose(numpy(variable), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("parts", [(3,), ()])
def test_parts_that_make_no_whole_are_refused(parts):
    name = "s1.pathway0_stem.bn.split_bn.running_mean"
    state = {"s1.pathway0_stem.bn.weight": np.ones(4), name: np.zeros(parts)}
    model = build("pyslowfast", C2D, depth=14, non_local=0)
    with pytest.raises(CheckpointError, match="stem.bn' do not make one normalisation"):
        load_weights(model, state)


@pytest.mark.backends
@pytest.mark.parametrize(
    "mode", ["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
)
@pytest.mark.parametrize("sub_sample", [True, False])
def test_modes_of_mmaction2(mode, sub_sample):
    def spell(path):
        return spelling.mmaction2(path, sub_sample)

    options = {"mode": mode, "sub_sample": sub_sample}
    model = build(
        "mmaction2", depth=14, non_local={"res3": [0]}, non_local_options=options
    )
    state = draw_state(model, spell)
    state["data_preprocessor.mean"] = np.ones((3, 1, 1, 1))
    report = load_weights(model, {"meta": {}, "state_dict": state})
    assert report.ok and report.source == "mmaction2"
    position = "after" if sub_sample else None
    options = {"mode": mode, "pool_position": position, "scaled": False}
    assert_logits(model, TorchNetwork(state, spell, HALVING, stride=2, **options))


def test_sub_sampling_that_mmaction2s_names_deny_is_an_error():
    model = build("mmaction2", depth=14, non_local={"res3": [0]})
    state = draw_state(model, lambda path: spelling.mmaction2(path, False))
    message = r"sub_sample=True, not False(.|\n)*non_local_options={'sub_sample': False"
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, state)


@pytest.mark.parametrize("name", VIDEO_SOURCES)
def test_options_of_blocks_that_are_new_are_free(name):
    spell, _ = VIDEO_SOURCES[name]
    state = draw_state(build(name, depth=14, non_local=0), spell)
    options = {"scope": "space", "sub_sample": True, "use_scale": False}
    places = {"res3": [0]}
    model = build(name, depth=14, non_local=places, non_local_options=options)
    assert load_weights(model, state).ok


MMACTION2_CONFIG = """model = dict(backbone=dict(
    non_local_cfg=dict(
        norm_cfg=dict(requires_grad=True, type='BN3d'),
        mode='dot_product', sub_sample=True, use_scale=False),
    type='ResNet3d'))"""


@pytest.mark.parametrize(
    "name, key, content",
    [
        ("mmaction2", "state_dict", {"meta": {"cfg": MMACTION2_CONFIG}}),
        ("mmaction2", "state_dict", {"meta": {"config": MMACTION2_CONFIG}}),
        (
            "pyslowfast",
            "model_state",
            {"cfg": "NONLOCAL:\n  GROUP: [[1]]\n  INSTANTIATION: dot_product\nBN:"},
        ),
    ],
)
def test_the_mode_in_a_config_beside_the_weights_must_be_the_models(name, key, content):
    spell, _ = VIDEO_SOURCES[name]
    model = build(name, depth=14, non_local={"res3": [0]})
    content = content | {key: draw_state(model, spell)}
    message = (
        "mode='embedded_gaussian', not 'dot_product'(.|\n)*{'mode': 'dot_product'}"
    )
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, content)
    options = {"mode": "dot_product"}
    model = build(name, depth=14, non_local={"res3": [0]}, non_local_options=options)
    assert load_weights(model, content).ok


@pytest.mark.parametrize("stated", ["use_scale=True", "sub_sample=True"])
def test_the_scale_in_mmaction2s_config_must_be_the_models(stated):
    """It is on unless the config turns it off, as it does for I3D."""
    spell, _ = VIDEO_SOURCES["mmaction2"]
    model = build("mmaction2", depth=14, non_local={"res3": [0]})
    config = f"backbone=dict(non_local_cfg=dict(norm_cfg=dict(type='BN3d'), {stated}))"
    content = {"meta": {"cfg": config}, "state_dict": draw_state(model, spell)}
    with pytest.raises(CheckpointError, match="use_scale=False, not True"):
        load_weights(model, content)
    options = {"use_scale": True}
    model = build(
        "mmaction2", depth=14, non_local={"res3": [0]}, non_local_options=options
    )
    assert load_weights(model, content).ok


@pytest.mark.parametrize(
    "name, wrong, right",
    [
        ("gluoncv", "8x8", "32x2"),
        ("mmaction2", "8x8", "32x2"),
        ("pyslowfast", "32x2", "8x8"),
    ],
)
def test_a_stem_that_no_network_of_the_project_has_is_an_error(name, wrong, right):
    model = build(name, depth=14, non_local=0, stem=wrong)
    state = draw_state(model, VIDEO_SOURCES[name][0])
    message = rf"conv1 and pool1 have stride . in time, not .(.|\n)*with stem='{right}'"
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, state)
    assert load_weights(build(name, depth=14, non_local=0, stem=right), state).ok


def test_the_bias_that_mmaction2_has_not_is_zero():
    options = {"use_output_bias": True}
    model = build(
        "mmaction2", depth=14, non_local={"res3": [0]}, non_local_options=options
    )
    spell = VIDEO_SOURCES["mmaction2"][0]
    state = draw_state(model, spell)
    del state["backbone.layer2.0.non_local_block.conv_out.conv.bias"]
    bias = model.get_layer("res3_0_nonlocal").w_z.bias
    bias.assign(np.ones(bias.shape))
    report = load_weights(model, state)
    assert report.filled == {"res3_0_nonlocal/w_z/bias": 0}
    assert (numpy(bias) == 0).all()


@pytest.mark.backends
def test_c2d_of_mmaction2_has_kernels_for_images():
    spell, _ = VIDEO_SOURCES["mmaction2"]
    model = build("mmaction2", C2D, non_local=0)
    state = draw_state(model, spell, image=True)
    assert state["backbone.conv1.conv.weight"].ndim == 4
    report = load_weights(model, state)
    assert report.ok and not report.inflated
    assert_logits(model, TorchNetwork(state, spell, UNPADDED))


@pytest.mark.backends
def test_aliases_of_gluoncv_are_equal_and_ignored():
    spell, options = VIDEO_SOURCES["gluoncv"]
    model = build("gluoncv", clip=(16, 48, 48, 3), stem="32x2")
    state = draw_state(model, spell)
    block = "res_layers.1.0.nonlocal_block"
    aliases = {
        "head.1.weight": "fc.weight",
        "head.1.bias": "fc.bias",
        f"{block}.W_bn.0.weight": f"{block}.W.weight",
        f"{block}.W_bn.1.running_var": f"{block}.bn.running_var",
    }
    state |= {alias: state[name] for alias, name in aliases.items()}
    report = load_weights(model, state)
    assert report.ok and set(report.ignored) == set(aliases)
    options = options | {"pool1": HALVING, "stride": 2}
    assert_logits(model, TorchNetwork(state, spell, **options))
    state["head.1.bias"] = state["fc.bias"] + 1
    with pytest.raises(CheckpointError, match="unexpected +1  head.1.bias"):
        load_weights(model, state)


@pytest.mark.parametrize(
    "spell, name, message",
    [
        (
            spelling.mmaction2,
            "backbone.layer1.0.conv1.conv.net.weight",
            "a TSM, which shifts channels",
        ),
        (
            spelling.mmaction2,
            "backbone.layer2.0.block.conv1.conv.weight",
            "a TSM, which shifts",
        ),
        (
            spelling.mmaction2,
            "backbone.slow_path.conv1.conv.weight",
            "a SlowFast network of two",
        ),
        (spelling.mmaction2, "backbone.layer2.net.0.conv1.conv.weight", "a TSM"),
        (spelling.video_nonlocal_net, "t_conv1_w", "a SlowFast network of two"),
        (
            spelling.pyslowfast,
            "s1.pathway1_stem.conv.weight",
            "a SlowFast network of two",
        ),
    ],
)
def test_other_networks_are_refused_by_name(spell, name, message):
    model = build("mmaction2", C2D, depth=14, non_local=0)
    state = draw_state(model, spell) | {name: np.zeros(3)}
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, state, strict=False)


@pytest.mark.parametrize(
    "spell", [spelling.mmaction2, spelling.pyslowfast, spelling.video_nonlocal_net]
)
def test_slow_networks_are_refused(spell):
    model = build("mmaction2", depth=14, non_local=0)
    state = draw_state(model, spell)
    state[spell("conv1/kernel")] = np.zeros((4, 3, 1, 7, 7))
    with pytest.raises(CheckpointError, match=r"a Slow network \(SlowOnly\)"):
        load_weights(model, state, strict=False)


def test_sources_are_found_by_their_names():
    spells = {name: spell for name, (spell, _) in VIDEO_SOURCES.items()}
    spells["torchvision"] = spelling.torchvision
    for name, spell in spells.items():
        network = build("pyslowfast", C2D, depth=14, non_local=0)
        state = draw_state(network, spell, image=name == "torchvision")
        wrapped = {f"module.{key}": array for key, array in state.items()}
        weights = read_content({"state_dict": wrapped})
        assert weights.source.name == name and not weights.unexpected
        paths = [weight.path for weight in network.weights]
        assert weights.names == {path: spell(path) for path in paths}
    assert set(spells) <= set(SOURCES)


def test_names_of_no_source_are_shown():
    model = build("pyslowfast", C2D, depth=14, non_local=0)
    with pytest.raises(CheckpointError, match="None of the 2 names .* 'a.b', 'c.d'"):
        load_weights(model, {"c.d": np.ones(2), "a.b": np.ones(2)})
    with pytest.raises(CheckpointError, match="holds a list"):
        read_content([1, 2])
    with pytest.raises(ValueError, match="`source` of .* Did you mean 'pyslowfast'"):
        load_weights(model, {}, source="slowfast")
    with pytest.raises(CheckpointError, match="None of the 1 names .* gluoncv"):
        load_weights(model, {"conv1_w": np.ones(2)}, source="gluoncv")


def test_configs_without_end_are_searched_once():
    """50 million characters, of which nothing closes the brackets."""
    source = SOURCES["mmaction2"]
    for config in (
        "non_local_cfg=dict(" + "a" * 5 * 10**7,
        "non_local_cfg=dict(" * 10**6,
    ):
        with limited(seconds=5, headroom=2**28):
            options = source.block_options({}, {"meta": {"cfg": config}})
        assert options == {"sub_sample": False}
