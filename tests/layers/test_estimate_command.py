"""`python -m keras_nonlocal.estimate`."""

import json
import runpy
import subprocess
import sys

import pytest

from keras_nonlocal import estimate

main = runpy.run_module("keras_nonlocal.estimate")["main"]  # as the command is run
SHAPE = (1, 32, 28, 28, 512)


def test_prints_the_table_of_the_function(capsys):
    assert main(["--mode", "dot_product", "--input", "32x28x28x512"]) == 0
    assert capsys.readouterr().out == f"{estimate({'mode': 'dot_product'}, SHAPE)}\n"


@pytest.mark.parametrize(
    "size, batch, shape",
    [("28x28x64", 2, (2, 28, 28, 64)), ("128x64", 1, (1, 128, 64))],
)
def test_json_of_images_and_sequences(capsys, size, batch, shape):
    options = ["--options", '{"sub_sample": false}', "--json"]
    assert main(["--input", size, "--batch", str(batch), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = estimate({"sub_sample": False}, shape)
    assert printed["input_shape"] == list(shape)
    assert printed["chosen"] == expected.chosen
    assert printed["forms"][0]["peak_bytes"] == expected.forms[0].peak_bytes


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input", "32x28x0x512"], "is not like 32x28x28x512"),
        (["--input", "512"], "is not like 32x28x28x512"),
        (["--input", "1x1x1x8"], "too small for its keys"),
        (["--options", "3"], "--options must be a JSON object"),
        (["--options", '{"foo": 1}'], "foo"),
        (["--mode", "dot"], "invalid choice"),
    ],
)
def test_mistakes_are_errors(capsys, arguments, message):
    try:
        status = main(arguments)
    except SystemExit as exit:  # argparse
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2 and message in captured.err and not captured.out


@pytest.mark.slow
def test_the_command_prints_pure_json():
    command = [sys.executable, "-m", "keras_nonlocal.estimate", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["input_shape"] == list(SHAPE)
