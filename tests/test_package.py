"""What a user gets from pip: the wheel, its contents and its imports."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

import keras_nonlocal

ROOT = pathlib.Path(__file__).parents[1]
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "official", "tf_keras", "trainers"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
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
            if path.suffix in (".py", ".typed"):
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


def test_imports_without_tensorflow_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = f"""{BLOCKED}
import keras_nonlocal, keras_nonlocal.describe
assert keras_nonlocal.__file__.startswith({str(tmp_path)!r}), keras_nonlocal.__file__
import numpy as np
y = keras_nonlocal.NonLocal3D()(np.ones((1, 2, 4, 4, 4), "float32"))
print(y.shape, keras_nonlocal.__version__)
"""
    # Keras's NumPy backend: inference only, but no framework underneath.
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"KERAS_BACKEND": "numpy", "PYTHONPATH": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    expected = f"(1, 2, 4, 4, 4) {keras_nonlocal.__version__}"
    assert result.stdout.strip().endswith(expected)


def test_every_public_name_exists_and_is_documented():
    for name in keras_nonlocal.__all__:
        if name != "__version__":
            assert getattr(keras_nonlocal, name).__doc__.strip()
