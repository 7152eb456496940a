"""Counts against the analytic table of the released code and the paper's Table 2e."""

import functools
import json
import runpy
import subprocess
import sys

import pytest

from keras_nonlocal import C2D, I3D, KeypointRCNN, MaskRCNN, describe

main = runpy.run_module("keras_nonlocal.describe")["main"]  # as the command is run

BUILDERS = {"c2d": C2D, "i3d": I3D}
CLIP = {"8x8": 8, "32x2": 32}


@functools.cache
def count(architecture, depth, stem, side=224, non_local=None, **options):
    """Keeps the counts, not the networks, which are large."""
    model = BUILDERS[architecture](
        depth,
        input_shape=(CLIP[stem], side, side, 3),
        stem=stem,
        non_local=non_local,
        **options,
    )
    return describe(model)


# architecture, depth, blocks: params M, GMAC 8x8 at 224 and at 256, 32x2 at 224.
RELEASED = {
    ("c2d", 50, None): (24.328, 19.29, 25.23, 20.23),
    ("c2d", 50, 5): (31.686, 27.42, 37.04, 28.36),
    ("i3d", 50, None): (28.043, 28.11, 36.76, 32.83),
    ("i3d", 50, 5): (35.402, 36.24, 48.57, 40.96),
    ("c2d", 101, None): (43.320, 34.14, 44.62, 35.08),
    ("i3d", 101, None): (51.754, 46.66, 60.99, 51.38),
    ("i3d", 101, 5): (59.113, 54.79, 72.80, 59.51),
}


# The others have these networks' kinds of layers, fewer or more of them.
LARGEST = (("c2d", 50, 5), ("i3d", 50, 5))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, marks=() if network in LARGEST else pytest.mark.slow)
        for network in RELEASED
    ],
)
def test_counts_are_those_of_the_released_networks(network):
    architecture, depth, non_local = network
    params, gmacs_8x8, _, gmacs_32x2 = RELEASED[network]
    small = count(architecture, depth, "8x8", non_local=non_local)
    large = count(architecture, depth, "32x2", non_local=non_local)
    assert round(small.params / 1e6, 3) == round(large.params / 1e6, 3) == params
    assert (round(small.gmacs, 2), round(large.gmacs, 2)) == (gmacs_8x8, gmacs_32x2)


@pytest.mark.slow
@pytest.mark.parametrize("network", RELEASED)
def test_counts_are_those_of_the_released_networks_at_256(network):
    architecture, depth, non_local = network
    description = count(architecture, depth, "8x8", 256, non_local)
    assert round(description.gmacs, 2) == RELEASED[network][2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture, options, params_ratio, flops_ratio",
    [
        ("i3d", {"temporal_kernel": "3x3x3"}, 1.5, 1.8),
        ("i3d", {}, 1.2, 1.5),  # 3x1x1
        ("c2d", {"non_local": 5}, 1.2, 1.2),
    ],
)
def test_table_2e(architecture, options, params_ratio, flops_ratio):
    baseline = count("c2d", 101, "32x2", non_local=None)
    other = count(architecture, 101, "32x2", **({"non_local": None} | options))
    # The paper prints 43.2M and 34.2B; its Table 1 pools and strides give 43.3M.
    assert baseline.params / 1e6 == pytest.approx(43.2, abs=0.15)
    assert baseline.gmacs == pytest.approx(34.2, rel=0.03)
    assert round(other.params / baseline.params, 1) == params_ratio
    assert round(other.gmacs / baseline.gmacs, 1) == flops_ratio


@pytest.mark.parametrize(
    "non_local, mode, params, gmacs",
    [
        pytest.param(None, "embedded_gaussian", 28.0, 43.5, marks=pytest.mark.slow),
        pytest.param(5, "embedded_gaussian", 35.4, 59.3, marks=pytest.mark.slow),
        pytest.param(5, "dot_product", 35.4, 59.3, marks=pytest.mark.slow),
        (5, "gaussian", 31.7, 56.5),
    ],
)
def test_counts_are_those_that_mmaction2_prints(non_local, mode, params, gmacs):
    # From its README; FLOPs at 256x256, with normalisation counted (0.2 more).
    model = I3D(
        input_shape=(32, 256, 256, 3),
        stem="32x2",
        convention="mmaction2",
        non_local=non_local,
        non_local_options={"mode": mode},
    )
    description = describe(model)
    assert round(description.params / 1e6, 1) == params
    assert gmacs - 0.25 < description.gmacs < gmacs


def block_macs(**options):
    """Of one block of 8 channels on (T, H, W) = (4, 6, 6), with d = 4."""
    model = C2D(
        14,
        input_shape=(8, 31, 31, 3),
        width=2,
        non_local={"res2": [0]},
        non_local_options=options,
        convention="pyslowfast",
    )
    macs = next(p.macs for p in describe(model).parts if p.name == "res2")
    return macs.embeddings, macs.pairwise


# N = 8 * 8 * 8 queries, M = N / 4 keys.
N, M, C, D = 512, 128, 8, 4


@pytest.mark.parametrize(
    "options, embeddings, pairwise",
    [
        ({}, (N + M + M + N) * C * D, N * M * 2 * D),
        ({"pool_position": "after"}, 4 * N * C * D, N * M * 2 * D),
        ({"sub_sample": False}, 4 * N * C * D, N * N * 2 * D),
        ({"mode": "gaussian"}, (M + N) * C * D, N * M * (C + D)),
        (
            {"mode": "concatenation"},
            2 * (N + M) * C * D,
            (N + M) * D + N * M * D,
        ),
        ({"scope": "space"}, 2 * (N + M) * C * D, 8 * 64 * 16 * 2 * D),
        ({"scope": "time"}, 4 * N * C * D, 64 * 8 * 8 * 2 * D),
        ({"group_size": 2}, 2 * (N + M) * C * D, 4 * 128 * 32 * 2 * D),
        ({"intermediate_channels": 3}, 2 * (N + M) * C * 3, N * M * 6),
    ],
)
def test_block_counts_follow_its_options(options, embeddings, pairwise):
    assert block_macs(**options) == (embeddings, pairwise)


def test_frozen_layers_still_count():
    model = C2D(14, input_shape=(2, 32, 32, 3), width=4)
    params = describe(model).params
    model.trainable = False
    assert describe(model).params == params > 0


def test_dynamic_input_is_an_error():
    with pytest.raises(ValueError, match=r"describe needs sizes .* static `input_shap"):
        describe(C2D(14, input_shape=(None, 32, 32, 3), width=4))


def test_sizes_may_be_given_for_a_network_of_any_size():
    network = C2D(14, 5, (None, None, None, 3), width=4)
    expected = describe(C2D(14, 5, (4, 48, 64, 3), width=4))
    assert describe(network, (4, 48, 64, 3)).parts == expected.parts


# === Detection ===


@functools.cache
def count_detector(network, **options):
    return describe(network(**options), (800, 1333))


@pytest.mark.parametrize(
    "network, options, params",
    [
        (MaskRCNN, {}, 44_401_393),
        (KeypointRCNN, {}, 59_137_258),
        pytest.param(
            *(MaskRCNN, {"normalization": "batch"}, 44_454_513), marks=pytest.mark.slow
        ),
        pytest.param(
            *(MaskRCNN, {"convention": "torchvision_v2"}, 46_359_409),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_parameters_are_those_of_torchvision(network, options, params):
    assert count_detector(network, **options).params == params


def test_one_block_adds_less_than_5_percent():
    """Sec. 6 of the paper: "<5% additional computation to the baseline model"."""
    plain, extended = (count_detector(MaskRCNN, non_local=x) for x in (None, 1))
    assert extended.params - plain.params == 2_101_760
    assert extended.non_local_blocks == ("res4_4_nonlocal",)
    # theta, W_z of 50 x 84 queries, phi, g of 25 x 42 keys; and all their pairs.
    embeddings = 2 * (50 * 84 + 25 * 42) * 1024 * 512
    pairwise = 2 * (50 * 84) * (25 * 42) * 512
    assert extended.macs.embeddings == embeddings
    assert extended.macs.pairwise == pairwise
    assert extended.macs.total - plain.macs.total == embeddings + pairwise
    assert 1.03 < extended.gmacs / plain.gmacs < 1.05


def test_blocks_of_the_keypoint_head():
    small = {"width": 8, "depth": 14}
    plain, extended = (
        describe(KeypointRCNN(head_non_local=x, **small)) for x in (False, True)
    )
    assert len(extended.non_local_blocks) == 4
    channels, positions = 64, 14 * 14
    block = 4 * channels * channels // 2 + 3 * channels // 2 + channels + 2 * channels
    assert extended.params - plain.params == 4 * block
    embeddings = 2 * (positions + positions // 4) * channels * channels // 2
    assert extended.macs.embeddings == 4 * 100 * embeddings


def test_heads_are_counted_for_every_level_and_region():
    description = describe(MaskRCNN(14, 3, width=8, min_size=64, max_size=96))
    assert description.input_shape == (64, 96, 3)  # 64 x 85, padded
    parts = {part.name: part for part in description.parts}
    positions = 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2  # of P2 to P6
    assert parts["rpn"].macs.total == positions * (9 * 32 * 32 + 32 * 15)
    hidden = 49 * 32 * 128 + 128 * 128 + 128 * 3 * 5
    assert parts["box"].macs.total == parts["box"].macs.classifier == 1000 * hidden
    mask = 14 * 14 * (4 * 9 * 32 * 32 + 4 * 32 * 32) + 28 * 28 * 32 * 3
    assert parts["mask"].macs.total == 100 * mask
    assert parts["fpn"].output_shape[-1] == 32


# === Command line ===

SMALL = ["--depth", "26", "--width", "4", "--input", "8x64x64", "--num-classes", "5"]


def test_json_holds_the_counts(capsys):
    blocks = ["--non-local", '{"res3": [0, 1], "res4": [1]}', "--mode", "dot_product"]
    assert main(["i3d", *SMALL, *blocks, "--temporal-kernel", "3x3x3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = describe(
        I3D(
            26,
            5,
            (8, 64, 64, 3),
            width=4,
            temporal_kernel="3x3x3",
            non_local={"res3": [0, 1], "res4": [1]},
        )
    )
    assert printed["params"] == expected.params
    assert printed["gmacs"] == expected.gmacs
    assert printed["non_local_blocks"] == 3
    assert printed["non_local_block_names"] == [
        "res3_0_nonlocal",
        "res3_1_nonlocal",
        "res4_1_nonlocal",
    ]
    assert sum(part["params"] for part in printed["parts"]) == printed["params"]
    assert sum(printed["gmacs_by_kind"].values()) == pytest.approx(printed["gmacs"])


def test_table_shows_stages_and_places(capsys):
    assert main(["c2d", *SMALL, "--stem", "32x2", "--non-local", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = {line.split()[0]: line for line in lines}
    assert lines[0] == "c2d, input 8 x 64 x 64 x 3"
    assert "1 x 4 x 4 x 64" in parts["res4"] and parts["res4"].endswith("res4_0")
    assert "2 x 15 x 15 x 16" in parts["res2"]
    assert parts["total"].endswith("1 in all")
    width = parts["part"].index("params") + len("params")
    assert {line[width - 1].isdigit() for line in lines[2:]} == {True}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["c2d", "--non-local", "7"], "Expected None, 1, 5, 10"),
        (["c2d", "--non-local", "{}"], "this inserts none"),
        (["c2d", "--non-local", '{"res3": [9]}'], "indices 0 to 3"),
        (["c2d", "--non-local", "res3"], "'res3' is not JSON"),
        (["c2d", "--depth", "34"], "`depth` of C2D"),
        (["c2d", "--width", "0"], "`width` of C2D"),
        (["c2d", "--input", "8x224"], "'8x224' is not like 32x224x224"),
        (["c2d", "--input", "1x64x64"], "clips are too small: pool2"),
        (["c2d", "--input", "8x4x4"], "clips are too small: pool1"),
        (["c2d", "--non-local-options", "[1]"], "must be a JSON object"),
        (
            ["c2d", "--non-local", "1", "--non-local-options", '{"mod": 1}'],
            "mod",
        ),
        (["r3d"], "invalid choice: 'r3d'"),
        (["c2d", "--groups", "2"], "unrecognized arguments: --groups 2"),
        (["mask_rcnn", "--input", "8x64x64"], "'8x64x64' is not like 800x1333"),
        (["mask_rcnn", "--depth", "34"], "depth"),
        (["mask_rcnn", "--convention", "pyslowfast"], "invalid choice: 'pyslowfast'"),
    ],
)
def test_bad_arguments_print_an_error(arguments, message, capsys):
    try:
        status = main(arguments)
    except SystemExit as exit:  # argparse's own message
        status = exit.code
    assert status == 2
    printed = capsys.readouterr().err
    assert "error: " in printed and message in printed


@pytest.mark.slow
def test_module_runs_without_warnings():
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "keras_nonlocal.describe"]
        + ["c2d", *SMALL, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "found in sys.modules" not in result.stderr
    assert json.loads(result.stdout)["non_local_blocks"] == 0


def test_a_temporal_kernel_is_noted_and_passed_over_for_c2d(capsys):
    assert main(["c2d", *SMALL, "--json"]) == 0
    plain = capsys.readouterr().out
    assert main(["c2d", *SMALL, "--temporal-kernel", "3x1x1", "--json"]) == 0
    output = capsys.readouterr()
    assert output.out == plain
    assert "c2d has no temporal kernels" in output.err


DETECTOR = ["--depth", "14", "--width", "8", "--num-classes", "3", "--input", "60x90"]


def test_json_of_a_detector(capsys):
    assert main(["mask_rcnn", *DETECTOR, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    blocks = ["--non-local", '{"res4": [0]}', "--head-non-local", "--mode", "gaussian"]
    assert main(["keypoint_rcnn", *DETECTOR, *blocks, "--json"]) == 0
    extended = json.loads(capsys.readouterr().out)
    assert plain["name"] == "mask_rcnn" and plain["non_local_blocks"] == 0
    assert plain["input_shape"] == extended["input_shape"] == [64, 96, 3]
    assert extended["non_local_blocks"] == 5
    assert sum(part["params"] for part in extended["parts"]) == extended["params"]
    for described in (plain, extended):
        total = sum(described["gmacs_by_kind"].values())
        assert total == pytest.approx(described["gmacs"]) and total > 0


def test_head_blocks_are_noted_and_passed_over_for_masks(capsys):
    assert main(["mask_rcnn", *DETECTOR, "--head-non-local"]) == 0
    printed = capsys.readouterr()
    assert "mask_rcnn has no blocks in its heads" in printed.err
    assert printed.out.startswith("mask_rcnn, input 64 x 96 x 3")


@pytest.mark.slow
def test_command_for_the_largest_network_of_table_5(capsys):
    arguments = ["--depth", "152", "--groups", "32", "--group-width", "8"]
    assert main(["mask_rcnn", *arguments, "--non-local", "1", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["non_local_block_names"] == ["res4_34_nonlocal"]
    heads = 44_401_393 - 23_454_912
    assert described["params"] == 120_028_352 + heads + 2_101_760
