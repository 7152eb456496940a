"""Settings every test runs under; read before Keras is imported."""

import gc
import os
import pathlib
import random
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # float64 references need it
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# One thread for each test process, and for those that it starts: the processes run
# side by side, and more threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def _cheap_garbage_collection():
    """What was imported, and what earlier tests left behind, is not searched again.

    It would take up to a second each time, and `cli.run` collects all garbage.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _same_seed_in_every_module():
    keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def _same_seed_every_time():
    """Keras draws the seeds of layers from Python's.

    Not `set_random_seed` again: TensorFlow drops its kernels with every new seed, and
    the tests would take a third longer.
    """
    random.seed(1)
    np.random.seed(1)


@pytest.fixture(autouse=True)
def _same_settings_of_the_process_afterwards():
    """`distribution.configure` sets them; under op determinism Keras refuses XLA."""
    yield
    keras.config.set_dtype_policy("float32")
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config  # the public API only enables

        config.disable_op_determinism()


# === In a browser ===


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), None)
        path = path or running.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip("there is no Chromium: playwright install chromium")
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Function that opens a file, and gives the page.

    It takes the options of a context, such as `color_scheme`. Afterwards nothing may
    have been printed to the console, nor requested from elsewhere.
    """
    contexts, problems = [], []

    def check(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            problems.append(f"asked {request.url}")

    def open_file(path, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", check)
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert problems == []


# === The checkout stays as it is ===

_FILES = pytest.StashKey[set]()
_LEFT = pytest.StashKey[list]()
# What other commands of the Makefile write.
_OUTPUTS = {"__pycache__", "build", "demo", "dist", "runs", "site"}


def _files_of_the_checkout():
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f[0] != "." and f not in _OUTPUTS]
        found |= {os.path.join(folder, file) for file in files if file[0] != "."}
    return found


def _is_worker(config):
    return hasattr(config, "workerinput")


def pytest_sessionstart(session):
    if not _is_worker(session.config):
        session.config.stash[_FILES] = _files_of_the_checkout()


def pytest_sessionfinish(session):
    if not _is_worker(session.config):
        new = _files_of_the_checkout() - session.config.stash[_FILES]
        session.config.stash[_LEFT] = sorted(new)
        if new:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    left = config.stash.get(_LEFT, [])
    if left:
        terminalreporter.section("Files left in the checkout", red=True)
        terminalreporter.write("\n".join(left) + "\n")
