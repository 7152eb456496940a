"""`check_with`: a converted network against what its project computed."""

import os

import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError, convert_file
from keras_nonlocal.convert.__main__ import main
from tests.convert.files_of_weights import states, write
from tests.parity import seeded

SIZE = "8x224x224"
CLIP = (8, 64, 64)


# === The projects' own numbers ===


def recorded(project, network, folder):
    """A file of weights, and one of the clip and logits, as its project saw them."""
    found = seeded.read(project, network)
    weights = write(found.state, folder / "weights.pkl")
    np.savez(folder / "a.npz", clip=seeded.clip(SIZE), logits=found.outputs[SIZE])
    return weights, folder / "a.npz", found


def test_a_network_of_pyslowfast_gives_its_logits(tmp_path, capsys):
    weights, logits, _ = recorded("pyslowfast", "I3D_NLN_8x8_R50", tmp_path)
    path = tmp_path / "a.keras"
    assert main([weights, str(path), "--check-with", str(logits)]) == 0
    assert "checked: the logits differ by " in capsys.readouterr().out
    assert path.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "project, network, options",
    [
        ("gluoncv", "i3d_nl5_resnet50_v1_kinetics400", {"clip": (8, 224, 224)}),
        ("video_nonlocal_net", "i3d_nl5_r50", {}),
    ],
)
def test_networks_of_other_projects_give_their_logits(
    project, network, options, tmp_path
):
    weights, logits, _ = recorded(project, network, tmp_path)
    done = convert_file(
        weights, tmp_path / "a.keras", check_with=logits, overwrite=False, **options
    )
    assert done.difference < 1e-4


def test_another_mode_than_the_projects_is_noticed(tmp_path):
    weights, logits, _ = recorded("pyslowfast", "I3D_NLN_8x8_R50_dot_product", tmp_path)
    before = sorted(os.listdir(tmp_path))
    message = r"nothing was written: its logits differ .* by \d\.\de[+-]\d\d of the l"
    with pytest.raises(CheckpointError, match=message):
        convert_file(weights, tmp_path / "a.keras", check_with=logits)
    assert sorted(os.listdir(tmp_path)) == before
    done = convert_file(
        weights, tmp_path / "a.keras", check_with=logits, mode="dot_product"
    )
    assert done.difference < 1e-4


# === Layouts, and what is no recording ===


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network, a clip and what it gives for it."""
    folder = tmp_path_factory.mktemp("small")
    weights = write(states()["pyslowfast"], folder / "weights")
    model = convert_file(weights, folder / "a.keras", clip=CLIP).model
    clips = np.random.default_rng(0).normal(size=(2, *CLIP, 3)).astype("float32")
    return weights, clips, np.asarray(model(clips, training=False))


def check(small, path, **arrays):
    np.savez(path / "a.npz", **arrays)
    return convert_file(
        small[0], path / "a.keras", clip=CLIP, check_with=path / "a.npz"
    )


@pytest.mark.parametrize(
    "layout",
    [
        lambda clips: clips,
        lambda clips: np.moveaxis(clips, -1, 1),
        lambda clips: clips.astype("float64"),
    ],
)
def test_batches_of_either_layout(small, layout, tmp_path):
    _, clips, logits = small
    done = check(small, tmp_path, clip=layout(clips), logits=logits)
    assert done.difference < 1e-5


@pytest.mark.parametrize("axis", [-1, 0])
def test_single_clips_of_either_layout(small, axis, tmp_path):
    _, clips, logits = small
    clip = np.moveaxis(clips[0], -1, axis)
    assert check(small, tmp_path, clip=clip, logits=logits[0]).difference < 1e-5


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c, y: {"clip": c}, "has no array 'logits'"),
        (lambda c, y: {"logits": y}, "has no array 'clip'"),
        (lambda c, y: {"clip": c[..., :2], "logits": y}, r"Expected \(T, H, W, 3\)"),
        (lambda c, y: {"clip": c[0, 0], "logits": y[0]}, r"Expected \(T, H, W, 3\)"),
        (lambda c, y: {"clip": c, "logits": y[0]}, "for the 2 clips"),
        (lambda c, y: {"clip": c, "logits": y[:, :5]}, "5 classes, and the network"),
        (lambda c, y: {"clip": c * np.nan, "logits": y}, "'clip' is not all finite"),
        (lambda c, y: {"clip": c, "logits": y * np.inf}, "'logits' is not all fin"),
        (lambda c, y: {"clip": c.astype(str), "logits": y}, "'clip' is not all fin"),
        (lambda c, y: {"clip": c, "logits": y * 0 + 1 / 7}, "are probabilities"),
        (lambda c, y: {"clip": c, "logits": y * 1.001}, "does not compute what its"),
        (lambda c, y: {"clip": c[:, :, :32], "logits": y}, r"Pass clip=\(8, 32, 64\)"),
        (lambda c, y: {"clip": np.array([None]), "logits": y}, "Cannot read.*allow_p"),
    ],
)
def test_what_is_no_recording_of_the_network(small, change, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        check(small, tmp_path, **change(*small[1:]))
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_files_that_are_no_npz(small, content, tmp_path):
    path = tmp_path / "a.npz"
    if content is None:
        np.save(tmp_path / "a.npy", np.ones(3))
        path = tmp_path / "a.npy"
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{path.name}"):
        convert_file(small[0], tmp_path / "a.keras", clip=CLIP, check_with=path)
    with pytest.raises(CheckpointError, match="nowhere"):
        convert_file(small[0], tmp_path / "a.keras", check_with=tmp_path / "nowhere")


def test_a_new_classifier_has_no_recorded_logits(small, tmp_path):
    weights, clips, logits = small
    np.savez(tmp_path / "a.npz", clip=clips, logits=logits)
    with pytest.raises(CheckpointError, match="has a new classifier"):
        convert_file(
            weights,
            tmp_path / "a.keras",
            clip=CLIP,
            skip_classifier=True,
            check_with=tmp_path / "a.npz",
        )
