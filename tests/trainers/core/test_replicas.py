"""Two replicas against one on the same full batches, each in its own process."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.core import toy_task
from tests.trainers.workers import free_ports

ROOT = pathlib.Path(__file__).parents[3]
FIRST = ("sync", "overflow", "precise", "masks")  # without the marker `slow`
SGD = "trainer.optimizer_config.optimizer.sgd"
EMA = "trainer.optimizer_config.ema.average_decay=0.75"
PRECISE = "trainer.precise_batch_norm.num_batches=2"
RUNS = {
    "sync": [
        "runtime.synchronize_batch_norm=true",
        "task.dropout_rate=0.5",
        f"{SGD}.weight_decay=0.1",
    ],
    "clip": [
        "runtime.synchronize_batch_norm=true",
        f"{SGD}.global_clipnorm=0.01",
        f"{SGD}.weight_decay=0.1",
    ],
    "unsync": [],
    "overflow": [
        "runtime.mixed_precision_dtype=float16",
        "task.batch_norm=false",  # synchronised, it would spread the overflow
        "task.overflow_step=1",
        EMA,
    ],
    "precise": [EMA, PRECISE],
    "precise_sync": [EMA, PRECISE, "runtime.synchronize_batch_norm=true"],
    "masks": [],
    "whole": ["task.batch_norm=false", f"{SGD}.global_clipnorm=0.01"],
    "parts": [
        "task.batch_norm=false",
        f"{SGD}.global_clipnorm=0.01",
        "trainer.gradient_accumulation_steps=2",
    ],
    "sync_parts": [
        "runtime.synchronize_batch_norm=true",
        "task.dropout_rate=0.5",
        "trainer.gradient_accumulation_steps=2",
        "trainer.recompute_activations=true",
    ],
    "recompute": [
        "runtime.synchronize_batch_norm=true",
        "task.dropout_rate=0.5",
        f"{SGD}.weight_decay=0.1",
        "trainer.recompute_activations=true",
    ],
    "overflow_parts": [
        "runtime.mixed_precision_dtype=float16",
        "task.batch_norm=false",
        "task.overflow_step=1",
        EMA,
        "trainer.gradient_accumulation_steps=2",
        "trainer.recompute_activations=true",
    ],
}


def start(out, num_devices, names, **environment):
    arguments = [part for name in names for part in (name, *RUNS[name])]
    module = "tests.trainers.core.replicas"
    return subprocess.Popen(
        [sys.executable, "-m", module, out, num_devices, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stderr=subprocess.PIPE,
    )


def finish(processes):
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors.decode()[-3000:]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run name + number of replicas -> saved values."""
    out = tmp_path_factory.mktemp("replicas")

    @functools.cache
    def train(*names):
        finish([start(out, n, names) for n in ("1", "2")])

    def load(name):
        first = name[:-1] in FIRST
        train(*(run for run in RUNS if (run in FIRST) == first))
        return np.load(out / f"{name}.npz")

    return load


def weights(values, replica=0):
    return {
        re.sub(r"generator_\d+", "generator", key.partition("/")[2]): values[key]
        for key in values.files
        if key.startswith(f"{replica}/")
    }


def tiers(*names):
    return [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in FIRST))
        for name in names
    ]


@pytest.mark.parametrize("name", tiers("sync", "sync_parts", "clip", "overflow"))
def test_two_replicas_train_as_one_on_the_full_batch(results, name):
    """Weights, statistics, momentum, dropout, loss scale, after three steps."""
    one, two = weights(results(f"{name}1")), weights(results(f"{name}2"))
    assert one.keys() == two.keys()
    tolerance = 2e-3 if name == "overflow" else 2e-6  # float16 rounds by itself
    for path, value in one.items():
        np.testing.assert_allclose(
            two[path], value, rtol=tolerance, atol=tolerance, err_msg=path
        )


ALL = [name for name in RUNS if name != "masks"]


@pytest.mark.parametrize("name", tiers(*ALL))
def test_both_replicas_hold_the_same_variables(results, name):
    """Without synchronised batches too: the moving statistics are averaged."""
    values = results(f"{name}2")
    first, second = weights(values, 0), weights(values, 1)
    assert second
    for path, value in second.items():
        np.testing.assert_array_equal(first[path], value, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    ("name", "plain", "tolerance"),
    [
        ("parts", "whole", 2e-6),
        ("recompute", "sync", 2e-6),
        ("overflow_parts", "overflow", 2e-3),
    ],
)
def test_parts_and_recomputation_train_as_the_plain_step(
    results, name, plain, tolerance, replicas
):
    """Weights, statistics, momentum, loss scale and the number of updates."""
    expected = weights(results(f"{plain}{replicas}"))
    found = weights(results(f"{name}{replicas}"))
    assert expected.keys() == found.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(
            found[path], value, rtol=tolerance, atol=tolerance, err_msg=path
        )


@pytest.mark.slow
def test_unsynchronised_statistics_are_the_mean_of_the_replicas(results):
    """The mean of moving means is that of the full batch; momenta aside."""
    one, two = weights(results("unsync1")), weights(results("unsync2"))
    synced = weights(results("sync2"))
    np.testing.assert_allclose(
        two["bn/moving_mean"], one["bn/moving_mean"], rtol=0.1, atol=0.01
    )
    difference = two["bn/moving_variance"] - synced["bn/moving_variance"]
    assert np.abs(difference).max() > 1e-4


@pytest.mark.slow
def test_clipping_had_an_effect(results):
    clipped, free = weights(results("clip2")), weights(results("sync2"))
    assert np.abs(clipped["conv/kernel"] - free["conv/kernel"]).max() > 1e-3


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_overflow_on_one_replica_skips_the_step_on_all(results, replicas):
    values = weights(results(f"overflow{replicas}"))
    assert values["loss_scale/dynamic_scale"] == 2.0**14
    assert values["optimizer/iteration"] == 2  # of three steps
    assert all(np.isfinite(value).all() for value in values.values())


def test_float16_computes_in_float16(results):
    """Its weights differ from float32's by far more than float32 rounding."""
    half = results("overflow1")["logs/loss"]
    assert np.isfinite(half)
    full = results("sync1")["logs/loss"]
    assert abs(half - full) > 1e-6


def test_the_loss_reported_is_that_of_the_full_batch(results):
    one, two = results("sync1"), results("sync2")
    assert two["logs/loss"] == pytest.approx(one["logs/loss"], rel=1e-5)
    assert two["logs/gradient_norm"] == pytest.approx(
        one["logs/gradient_norm"], rel=1e-5
    )


def test_replicas_draw_the_dropout_mask_of_one_on_the_full_batch(results):
    """Another one for each example and in each step."""
    one, two = results("masks1"), results("masks2")
    masks = {i: one[f"step{i}/replica0"] for i in range(2)}
    for i, mask in masks.items():
        parts = [two[f"step{i}/replica{replica}"] for replica in range(2)]
        np.testing.assert_array_equal(np.concatenate(parts), mask)
    assert len({row.tobytes() for mask in masks.values() for row in mask}) == 4


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", tiers("precise", "precise_sync"))
def test_precise_statistics_are_those_of_the_batches_of_all_replicas(
    results, name, replicas
):
    """With the averaged weights, of the two batches after the three steps."""
    values = results(f"{name}{replicas}")
    x = np.concatenate([toy_task.make_batch(step, 4)[0] for step in (3, 4)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2, 2), (1, 2, 3))
    for replica in range(replicas):
        used = {v: values[f"evaluated/{replica}/{v}"] for v in STATISTICS}
        for part in ("kernel", "bias"):
            average = values[f"{replica}/optimizer/conv_{part}_average"]
            np.testing.assert_array_equal(used[f"conv/{part}"], average)
        kernel = np.float64(used["conv/kernel"])
        assert np.abs(kernel - values[f"{replica}/conv/kernel"]).max() > 1e-5
        y = np.einsum("bthwcijk,ijkcd->bthwd", windows, kernel) + used["conv/bias"]
        axes = (0, 1, 2, 3)
        found = used["bn/moving_mean"], used["bn/moving_variance"]
        np.testing.assert_allclose(found[0], y.mean(axes), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[1], y.var(axes), rtol=1e-5)


STATISTICS = ("conv/kernel", "conv/bias", "bn/moving_mean", "bn/moving_variance")


# === Two workers of one replica each ===


@pytest.fixture(scope="module")
def of_workers(tmp_path_factory):
    """Run name + number of the worker -> saved values."""
    out = tmp_path_factory.mktemp("workers")
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    cluster = {"worker": addresses}
    finish(
        [
            start(
                out,
                "1",
                ALL,
                TF_CONFIG=json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": i}}
                ),
            )
            for i in range(2)
        ]
    )
    return lambda name, i: np.load(out / f"{name}_of_worker{i}.npz")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_workers_train_as_replicas_of_one_process(results, of_workers, name):
    """In every way of training; an overflow on one of them skips the step on both."""
    expected = weights(results(f"{name}2"))
    found = [weights(of_workers(name, i)) for i in range(2)]
    tolerance = 2e-3 if name.startswith("overflow") else 2e-6
    for path, value in expected.items():
        np.testing.assert_array_equal(found[0][path], found[1][path], err_msg=path)
        np.testing.assert_allclose(
            found[0][path], value, rtol=tolerance, atol=tolerance, err_msg=path
        )
