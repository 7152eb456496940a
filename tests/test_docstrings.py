"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_nonlocal


def modules(package):
    return [
        module.name
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]


# To be run: importing these would hide the functions of the same names.
COMMANDS = {"keras_nonlocal.describe", "keras_nonlocal.estimate"}
MODULES = sorted(set(modules(keras_nonlocal)) - COMMANDS)
if keras.config.backend() == "tensorflow":
    import trainers

    # The commands define flags, which a process can do once.
    commands = {"trainers.video", "trainers.prepare_video"}
    MODULES += sorted(set(modules(trainers)) - commands)
PUBLIC = {name: getattr(keras_nonlocal, name) for name in keras_nonlocal.__all__}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    module = importlib.import_module(name)
    names = {"keras": keras, "np": np, "keras_nonlocal": keras_nonlocal} | PUBLIC
    result = doctest.testmod(module, extraglobs=names, verbose=False)
    assert result.failed == 0


def test_examples_of_the_trainers_are_found():
    if keras.config.backend() != "tensorflow":
        pytest.skip("the trainers run on TensorFlow")
    for name in ("trainers.core.errors", "trainers.video_classification.evaluation"):
        assert name in MODULES
        found = doctest.DocTestFinder().find(importlib.import_module(name))
        assert any(test.examples for test in found)
