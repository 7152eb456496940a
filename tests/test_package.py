"""The wheel: its contents, its requirements and its imports."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

import keras_nonlocal

ROOT = pathlib.Path(__file__).parents[1]
GUARDED = """
import builtins
plain = builtins.__import__
def guarded(name, globals=None, *args, **kwargs):
    importer = (globals or {}).get("__name__", "")
    top = name.split(".")[0]
    if top in ("official", "tf_keras", "tensorflow_models", "trainers"):
        raise ImportError(f"{importer} imports {name}")
    if top == "tensorflow" and importer.startswith("keras_nonlocal"):
        raise ImportError(f"{importer} imports {name} itself")
    return plain(name, globals, *args, **kwargs)
builtins.__import__ = guarded
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # build there: the checkout stays clean
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in ("keras_nonlocal", "trainers"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".typed", ".html"):
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    command += ["--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_keras_nonlocal_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"keras_nonlocal"}
    assert "keras_nonlocal/py.typed" in names
    assert "keras_nonlocal/layers/non_local_3d.py" in names
    # Imported by a process of its own, from this folder.
    assert "keras_nonlocal/convert/files/child/main.py" in names


def test_the_wheel_asks_for_keras_and_numpy_alone(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(n for n in archive.namelist() if n.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    needed = [
        line.split(":")[1].strip()
        for line in lines
        if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert sorted(needed) == ["keras>=3.15", "numpy"]


IN_USE = f"""{GUARDED}
import importlib.resources, json
import keras_nonlocal, keras_nonlocal.visualize
import numpy as np
from keras_nonlocal import C2D
from keras_nonlocal.convert import load_weights

y = keras_nonlocal.NonLocal3D()(np.ones((1, 2, 4, 4, 4), "float32"))
first, second = (C2D(14, 3, width=4) for _ in range(2))
first.save_weights("a.weights.h5")
report = load_weights(second, "a.weights.h5")
pairs = zip(first.get_weights(), second.get_weights())
print(json.dumps({{
    "file": keras_nonlocal.__file__,
    "page": importlib.resources.files(keras_nonlocal.visualize)
    .joinpath("page.html")
    .is_file(),
    "version": keras_nonlocal.__version__,
    "shape": tuple(y.shape),
    "source": report.source,
    "same": all(bool((x == y).all()) for x, y in pairs),
    "missing": len(report.missing),
}}))
"""


@pytest.fixture(scope="module")
def used(wheel, tmp_path_factory):
    """What was printed where the wheel alone has keras_nonlocal, and that place."""
    folder = tmp_path_factory.mktemp("outside")
    zipfile.ZipFile(wheel).extractall(folder)
    result = subprocess.run(
        [sys.executable, "-c", IN_USE],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), folder


def test_works_outside_the_checkout_and_leaves_tensorflow_to_keras(used):
    printed, folder = used
    assert printed["file"].startswith(str(folder))
    assert printed["version"] == keras_nonlocal.__version__
    assert printed["shape"] == [1, 2, 4, 4, 4]
    assert printed["page"]


def test_converts_outside_the_checkout(used):
    printed, _ = used
    assert printed["source"] == "keras_nonlocal"
    assert printed["same"] and printed["missing"] == 0


def test_every_public_name_exists_and_is_documented():
    for name in keras_nonlocal.__all__:
        if name != "__version__":
            assert getattr(keras_nonlocal, name).__doc__.strip()
