"""Every example in a docstring of the package runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_nonlocal

MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_nonlocal.__path__, "keras_nonlocal.")
    if not module.name.endswith("__main__")
]
PUBLIC = {name: getattr(keras_nonlocal, name) for name in keras_nonlocal.__all__}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    names = {"keras": keras, "np": np, "keras_nonlocal": keras_nonlocal} | PUBLIC
    result = doctest.testmod(module, extraglobs=names, verbose=False)
    assert result.failed == 0
