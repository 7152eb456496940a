"""`python -m keras_nonlocal.convert` as a user meets it."""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest

from keras_nonlocal.convert import (
    CheckpointError,
    convert_file,
    load_weights,
    read_metadata,
    write_keras_file,
)
from keras_nonlocal.convert.__main__ import _parser, main
from tests.convert import files_of_weights
from tests.convert.files_of_weights import BLOCKS, CLIP, build, write
from tests.convert.networks import numpy

SIZE = ("--input", "8x64x64")


@pytest.fixture(scope="module")
def states():
    return files_of_weights.states()


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: write(state, folder / name) for name, state in states.items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.keras"


def run(*arguments):
    return main([*map(str, arguments)])


def refused(capsys, *arguments):
    """One line of error, and nothing left behind; returns it."""
    destination = pathlib.Path(arguments[1])
    before = set(destination.parent.glob("*")) if destination.parent.exists() else ()
    try:
        status = run(*arguments)
    except SystemExit as exit:  # argparse
        status = exit.code
    captured = capsys.readouterr()
    assert status == 1 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    if destination.parent.exists():
        assert set(destination.parent.glob("*")) == before
    return captured.err


# === What is written ===


def test_a_file_becomes_the_network_it_is_of(files, states, path, capsys):
    arguments = ("--model", "i3d", "--depth", 14, "--num-classes", 7)
    assert run(files["pyslowfast"], path, *SIZE, *arguments) == 0
    output = capsys.readouterr().out
    assert "weights of pyslowfast" in output and f"wrote {path}" in output
    expected = build(convention="pyslowfast")
    load_weights(expected, states["pyslowfast"])
    clip = np.random.default_rng(1).normal(size=(1, *CLIP)).astype("float32")
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(
        numpy(loaded(clip)), numpy(expected(clip, training=False)), rtol=1e-5, atol=1e-5
    )


def test_the_metadata_of_a_file(files, path, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {i}\n" for i in "abcdefg"))
    assert run(files["gluoncv"], path, "--class-names", names) == 0
    metadata = read_metadata(path)
    assert metadata["source"] == "gluoncv" and metadata["file"] == "gluoncv"
    assert metadata["class_names"] == [f"class {i}" for i in "abcdefg"]
    assert metadata["architecture"] == {
        "model": "i3d",
        "depth": 14,
        "width": 4,
        "num_classes": 7,
        "non_local": BLOCKS,
        "non_local_options": {},
        "convention": "gluoncv",
        "temporal_kernel": "3x1x1",
        "stem": "32x2",
        "stride_in_1x1": False,
        "input_shape": [32, 224, 224, 3],
    }
    assert metadata["preprocessing"] == {
        "num_frames": 32,
        "temporal_stride": 2,
        "short_side": 256,
        "crop_size": 224,
        "activation": "softmax",
        "color": "RGB",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
    }


def test_images_are_inflated_and_keep_their_pixels(files, path, capsys):
    options = ("--model", "i3d", "--non-local", '{"res4": [0]}', "--num-classes", 3)
    assert run(files["torchvision"], path, *SIZE, *options, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["preprocessing"]["mean"] == [123.675, 116.28, 103.53]
    assert len(printed["report"]["inflated"]) == 4
    assert printed["difference"] is None and printed["report"]["problems"] == []
    assert any("are new" in note for note in printed["notes"])
    loaded = keras.models.load_model(path)
    assert loaded.output_shape == (None, 3) and loaded.get_layer("res4_0_nonlocal")


@pytest.mark.slow
def test_names_that_two_conventions_share_follow_the_one_asked_for(files, path):
    assert run(files["video_nonlocal_net"], path, "--convention", "pyslowfast") == 0
    metadata = read_metadata(path)
    assert metadata["source"] == "pyslowfast_caffe2"
    assert keras.models.load_model(path).get_layer("pool1").pad == (0, 1, 1)


def test_a_new_classifier(files, path, capsys):
    options = ("--num-classes", 3, "--skip-classifier")
    assert run(files["pyslowfast"], path, *SIZE, *options) == 0
    assert "new, expected        2  pred/kernel" in capsys.readouterr().out
    assert keras.models.load_model(path).output_shape == (None, 3)


def test_our_own_files_can_be_converted_again(files, path, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefg"))
    options = ("--mode", "dot_product", "--class-names", names)
    assert run(files["gluoncv"], path, "--input", "32x64x64", *options) == 0
    again = tmp_path / "again.keras"
    assert run(path, again, "--input", "32x64x64") == 0
    assert "is assumed" not in capsys.readouterr().out
    first, second = read_metadata(path), read_metadata(again)
    assert second.pop("source") == "keras_nonlocal" != first.pop("source")
    assert second.pop("file") == path.name != first.pop("file")
    assert first == second
    assert second["architecture"]["non_local_options"] == {"mode": "dot_product"}
    assert "--convention gluoncv" in refused(
        capsys, path, tmp_path / "x.keras", "--convention", "pyslowfast"
    )


@pytest.mark.slow
def test_the_stem_that_a_file_was_converted_with_stays(path, tmp_path, capsys):
    own = tmp_path / "own.keras"
    network = build(convention="pyslowfast", stem="32x2")
    network.save(own)
    options = ("--convention", "pyslowfast", "--stem", "32x2")
    assert run(own, path, *SIZE, *options) == 0
    again = tmp_path / "again.keras"
    assert run(path, again, *SIZE) == 0
    assert read_metadata(again)["architecture"]["stem"] == "32x2"
    clip = np.random.default_rng(1).normal(size=(1, *CLIP)).astype("float32")
    loaded = keras.models.load_model(again)
    np.testing.assert_array_equal(numpy(loaded(clip)), numpy(network(clip)))
    capsys.readouterr()
    error = refused(capsys, path, tmp_path / "x.keras", *SIZE, "--stem", "8x8")
    assert "--stem 8x8, but the weights need --stem 32x2" in error


def test_our_own_files_are_built_from_their_configs(path, tmp_path, capsys):
    own = tmp_path / "own.keras"
    options = {"mode": "dot_product", "scope": "space"}
    network = build(convention="paper", stem="32x2", non_local_options=options)
    network.save(own)
    assert run(own, path, *SIZE) == 0
    assert "is assumed" not in capsys.readouterr().out
    arguments = read_metadata(path)["architecture"]
    assert (arguments["convention"], arguments["stem"]) == ("paper", "32x2")
    assert arguments["non_local_options"] == options
    clip = np.random.default_rng(1).normal(size=(1, *CLIP)).astype("float32")
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(numpy(loaded(clip)), numpy(network(clip)))
    error = refused(capsys, own, tmp_path / "x.keras", "--convention", "gluoncv")
    assert "--convention gluoncv, but the weights need --convention paper" in error


def test_conventions_that_build_one_network_are_chosen_from(path, tmp_path, capsys):
    own = tmp_path / "own.keras"
    build(convention="mmaction2", stem="32x2", non_local=None).save(own)
    assert run(own, path, *SIZE) == 0
    assert "--convention mmaction2 is assumed" in capsys.readouterr().out
    assert run(own, path, *SIZE, "--convention", "gluoncv", "--overwrite") == 0
    assert read_metadata(path)["architecture"]["convention"] == "gluoncv"


@pytest.mark.slow
def test_inflated_images_keep_their_pixels_when_converted_again(files, path, tmp_path):
    assert run(files["torchvision"], path, *SIZE, "--model", "c2d") == 0
    again = tmp_path / "again.keras"
    assert run(path, again, *SIZE) == 0
    assert read_metadata(again)["preprocessing"]["mean"] == [123.675, 116.28, 103.53]


@pytest.mark.parametrize("metadata", ["x", {"architecture": 3}, {"architecture": {}}])
def test_damaged_metadata(path, capsys, tmp_path, metadata):
    write_keras_file(build(), path, metadata)
    error = refused(capsys, path, tmp_path / "x.keras")
    assert "Its metadata is damaged" in error


@pytest.mark.parametrize(
    "place, value",
    [
        ("architecture/convention", "paper"),  # not that of the layers
        ("preprocessing/mean", "abc"),
        ("class_names", 5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("architecture/convention", {}),
                ("architecture/convention", "x"),
                ("preprocessing/mean", [1.0, 2.0]),
                ("preprocessing/std", [1.0, 2.0, 0.0]),
                ("preprocessing/std", [1.0, 2.0, float("nan")]),
                ("preprocessing/color", ["RGB"]),
                ("class_names", ["a", 2, "c", "d", "e", "f", "g"]),
            )
        ),
    ],
)
def test_values_that_no_metadata_has(described, path, capsys, tmp_path, place, value):
    network, metadata = described
    metadata = json.loads(json.dumps(metadata))
    *keys, last = place.split("/")
    (metadata[keys[0]] if keys else metadata)[last] = value
    write_keras_file(network, path, metadata)
    error = refused(capsys, path, tmp_path / "x.keras", *SIZE)
    assert "Its metadata is damaged" in error


@pytest.fixture(scope="module")
def described(files, tmp_path_factory):
    """A converted network and what it says of itself."""
    path = tmp_path_factory.mktemp("described") / "out.keras"
    assert run(files["gluoncv"], path, *SIZE, "--mode", "dot_product") == 0
    return keras.models.load_model(path), read_metadata(path)


def test_overwriting_is_asked_for(files, path, capsys):
    path.write_text("mine")
    assert "it exists" in refused(capsys, files["pyslowfast"], path, *SIZE)
    assert path.read_text() == "mine"
    assert run(files["pyslowfast"], path, *SIZE, "--overwrite") == 0
    assert read_metadata(path)["source"] == "pyslowfast"


# === What is refused ===


@pytest.mark.parametrize(
    "options, message",
    [
        ("--depth 50", "--depth 50, but the weights need --depth 14"),
        (
            "--num-classes 101",
            "--num-classes 101, but .* --num-classes 7. --skip-classifier leaves",
        ),
        ("--model c2d", "--model c2d, but the weights need --model i3d"),
        ("--non-local 5", "Use a deeper network"),
        ("--non-local x", "'x' is not JSON"),
        ("--convention mmaction2", "mmaction2, but .* need --convention pyslowfast"),
        ("--mode gaussian", "--mode gaussian, but .* --mode embedded_gaussian or dot"),
        ("--source nowhere", "invalid choice: 'nowhere'"),
        ("--source gluoncv", "None of the .* names in the file is one of gluoncv's"),
        ("--class-names nowhere", "Cannot read 'nowhere': No such file"),
        ("--input 8x64", "'8x64' is not like 32x224x224"),
        ("--input 1x64x64", "The clips are too small: pool2"),
    ],
)
def test_contradictions(files, path, capsys, options, message):
    error = refused(capsys, files["pyslowfast"], path, *options.split())
    assert re.search(message, error)


def test_errors_name_flags_and_not_arguments(states, path, capsys, tmp_path):
    state = states["pyslowfast"]
    head = {name: x for name, x in state.items() if "head" in name}
    body = {name: x for name, x in state.items() if name not in head}
    error = refused(capsys, write(body, tmp_path / "body"), path, *SIZE)
    assert "the weights have no classifier. Use --num-classes N." in error
    error = refused(
        capsys,
        write(states["mmaction2_c2d"], tmp_path / "c2d"),
        path,
        *("--mode", "gaussian"),
    )
    assert "--mode gaussian needs non-local blocks" in error
    assert "Use --non-local N." in error
    error = refused(capsys, write(states["torchvision"], tmp_path / "image"), path)
    assert "Use --model c2d or i3d." in error
    path.write_text("mine")
    error = refused(capsys, write(state, tmp_path / "whole"), path)
    assert "it exists. --overwrite replaces what is there." in error
    path.unlink()
    name, bias = min(head.items(), key=lambda item: item[1].size)
    damaged = write(state | {name: bias * np.nan}, tmp_path / "damaged")
    assert run(damaged, path, *SIZE) == 1
    error = capsys.readouterr().err
    assert re.search(f"not finite +1  {name}", error)
    assert "strict" not in error and not path.exists()


def test_names_of_files_are_as_they_were_given(states, path, capsys, tmp_path):
    """No message is rewritten: what looks like an argument in a name stays."""
    name = tmp_path / "skip_classifier=True see `convention` depth=14"
    arguments = (write(states["pyslowfast"], name), path, "--depth", 50)
    assert f"Cannot convert {str(name)!r}" in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("num_clases", "no argument 'num_clases'. Did you mean 'num_classes'"),
        ("skip_clasifier", "Did you mean 'skip_classifier'"),
        ("unknown", "no argument 'unknown'"),
    ],
)
def test_unknown_arguments_are_type_errors(files, path, argument, message):
    with pytest.raises(TypeError, match=message):
        convert_file(files["pyslowfast"], path, **{argument: 7})
    assert not path.exists()


@pytest.mark.parametrize(
    "names, message",
    [
        ("a\nb\n", "There are 2 class names, and the network has 7 classes"),
        ("a\nb\na\n", "lists the class 'a' twice"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
    ],
)
def test_class_names_that_do_not_fit(files, path, capsys, tmp_path, names, message):
    file = tmp_path / "names.txt"
    file.write_bytes(names if isinstance(names, bytes) else names.encode())
    options = ("--class-names", file, *SIZE)
    assert message in refused(capsys, files["pyslowfast"], path, *options)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"weights\n", "it is a text file"),
        (b"<!DOCTYPE html><html>Not found</html>", "it is an HTML page"),
        (b"", "it is empty"),
        (None, "truncated"),
    ],
)
def test_what_is_no_checkpoint(files, path, capsys, tmp_path, content, message):
    file = tmp_path / "weights.pkl"
    whole = pathlib.Path(files["pyslowfast"]).read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert message in refused(capsys, file, path)


def test_a_tar_of_several_files(files, path, capsys, tmp_path):
    archive = tmp_path / "weights.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(files["pyslowfast"], "a.pkl")
        tar.add(files["gluoncv"], "b.pkl")
    assert "several checkpoints: 'a.pkl', 'b.pkl'" in refused(capsys, archive, path)


@pytest.mark.parametrize(
    "name, message",
    [
        ("out.h5", "its name is not"),
        ("nowhere/out.keras", "No such file or directory"),
        (".", "its name is not"),
    ],
)
def test_places_that_cannot_be_written(files, capsys, tmp_path, name, message):
    assert message in refused(capsys, files["pyslowfast"], tmp_path / name)


# === Nothing by half ===


def test_a_full_disk_leaves_nothing(files, path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert run(files["pyslowfast"], path, *SIZE) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.startswith(f"error: Cannot write {str(path)!r}")
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("error", [CheckpointError, KeyboardInterrupt])
def test_what_stops_the_writing_leaves_what_was_there(path, error):
    path.write_text("before")

    def stop(written):
        assert written.stat().st_size > 50_000 and path.read_text() == "before"
        raise error

    with pytest.raises(error):
        write_keras_file(build(), path, {}, overwrite=True, check=stop)
    assert path.read_text() == "before"
    assert os.listdir(path.parent) == [path.name]


def test_assumed_groups_are_noted(files, path, capsys):
    assert run(files["video_nonlocal_net_affine"], path, *SIZE) == 0
    assert "! res3: group_size=4 is assumed" in capsys.readouterr().out
    again = path.with_name("again.keras")
    assert run(path, again, *SIZE) == 0  # it says so of itself
    assert "group_size" not in capsys.readouterr().out.split("\n", 1)[1]


def test_every_option_is_explained():
    assert not [action.dest for action in _parser()._actions if not action.help]


@pytest.mark.slow
def test_the_command(files, path):
    command = [sys.executable, "-m", "keras_nonlocal.convert"]
    done = subprocess.run(
        [*command, files["pyslowfast"], path, *SIZE], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith(f"wrote {path}\n")
