"""Several workers: processes that train, evaluate, save and end as one does."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.trainers.workers import ROOT, TIMEOUT, Workers, check_examples
from trainers.core import checkpoint_files

pytestmark = pytest.mark.slow

SGD = "trainer.optimizer_config.optimizer.sgd"
# With batch normalisation over all replicas, everything is the same however a batch of
# 12 is divided, dropout included.
TRAINING = (
    "task.train_data.global_batch_size=12",
    "task.validation_data.global_batch_size=12",
    "task.model.dropout_rate=0.5",
    "trainer.train_steps=20",
    "trainer.validation_interval=20",
    "trainer.checkpoint_interval=10",
    f"{SGD}.global_clipnorm=0.5",
    f"{SGD}.weight_decay=0.01",
    "trainer.optimizer_config.ema.average_decay=0.9",
    "runtime.synchronize_batch_norm=true",
)
REPLICAS = ("runtime.num_cpu_devices=2", "runtime.distribution_strategy=mirrored")


def run(num_workers, *arguments, **options):
    with Workers(num_workers, *arguments, **options) as workers:
        workers.finish()
    return workers


def state(folder):
    """Weights, moving statistics, momenta and averages."""
    found = checkpoint_files.read(checkpoint_files.find(folder))
    return {k: v for k, v in found if k.startswith(("model/", "optimizer/"))}


def assert_close(one, other, tolerance=1e-5):
    assert one.keys() == other.keys() and len(one) > 20
    for key, value in one.items():
        np.testing.assert_allclose(
            other[key], value, rtol=tolerance, atol=tolerance, err_msg=key
        )


def results(folder):
    return json.loads((folder / "eval_results.json").read_text())


# === The same training ===


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    """(processes, replicas of each) -> a whole training."""
    folder = tmp_path_factory.mktemp("runs")
    training = (*TRAINING, "task.report_videos=2")
    return {
        (1, 2): run(1, config, folder / "replicas", *training, *REPLICAS),
        (2, 1): run(2, config, folder / "two", *training),
        (3, 1): run(3, config, folder / "three", *training),
    }


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_train_as_replicas_of_one_process(runs, workers):
    """The same batches, and the same weights after 20 steps."""
    one, several = runs[1, 2], runs[workers, 1]
    check_examples(one.seen(), several)
    assert_close(state(one.folder), state(several.folder))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_chief_writes_the_report(runs, workers):
    several = runs[workers, 1]
    assert "<html" in (several.folder / "report.html").read_text()
    assert "report was not written" not in several.errors(0)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_evaluation_of_workers_is_that_of_one_process(runs, workers):
    one, several = results(runs[1, 2].folder), results(runs[workers, 1].folder)
    losses = [found.pop("validation_loss") for found in (one, several)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert one == several
    assert one["num_videos"] == 6 and len(one["broken"]) == 1


@pytest.mark.parametrize("workers", [2, 3])
def test_only_the_chief_writes_and_nothing_is_left(runs, workers):
    def names(folder):
        return sorted(x.name for x in folder.rglob("*") if "events" not in x.name)

    several = runs[workers, 1]
    assert names(several.folder) == names(runs[1, 2].folder)
    assert len(list(several.folder.rglob("events*"))) == 2  # training, evaluation
    assert "top1" in several.output(0) and not several.output(1)


def test_one_process_evaluates_what_workers_have_trained(runs):
    """To the digit, at equal batches of a replica: 12 of three workers are 4 of one."""
    folder = runs[3, 1].folder
    before = results(folder)
    batch = "task.validation_data.global_batch_size=4"
    run(1, folder / "params.yaml", folder, batch, mode="eval")
    alone = results(folder)
    run(3, folder / "params.yaml", folder, mode="eval")
    assert results(folder) == alone
    assert alone["num_views"] == 2 * before["num_views"]


# === Stopped or lost ===


def assert_fails(workers, codes, message):
    """All end with these codes; the chief says why in one line."""
    assert workers.wait() == codes, [workers.errors(i) for i in workers.processes]
    errors = [x for x in workers.errors().splitlines() if x.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0]), errors
    assert "Traceback" not in workers.errors()


def test_a_training_goes_on_with_another_number_of_workers(runs, config, tmp_path):
    """One of two is stopped, one of three is killed, two replicas end it."""
    folder, expected = tmp_path / "run", runs[1, 2]
    with Workers(2, config, folder, *TRAINING) as two:
        two.wait_for_step(3)
        two.kill(1, signal.SIGTERM)
        assert two.wait() == [143, 143]
    assert "stopped by signal 15 that another worker received" in two.errors(0)
    assert two.errors(1).endswith("stopped by signal 15\n")
    for i in range(2):
        assert f"This is worker {i} (localhost:" in two.errors(i)
    step = checkpoint_files.number(checkpoint_files.find(folder))
    assert f"Saved step {step}." in two.errors(0)
    assert set(two.seen(0)) == set(two.seen(1)) == set(range(step))
    with Workers(3, config, folder, *TRAINING) as three:
        three.wait_for_step(12, index=2)
        three.kill(2)
        assert_fails(three, [75, 75, -9], r"worker \d \(.*\) was lost: killed")
    assert min(three.seen(0)) == step
    last = run(1, config, folder, *TRAINING, *REPLICAS)
    check_examples(expected.seen(), two, three, last)
    assert_close(state(expected.folder), state(folder))


def test_workers_that_do_not_come_are_named(config, tmp_path):
    """The worker, or the chief; and one whose port has another program."""
    short = "runtime.worker_timeout=8"
    with (
        Workers(2, config, tmp_path / "a", short, absent=[1]) as alone,
        Workers(2, config, tmp_path / "b", short, absent=[0]) as headless,
    ):
        assert_fails(alone, [75], r"worker 1 \(localhost:\d+\) did not come within 8 s")
        assert headless.wait() == [75]
    assert "error: worker 0 (localhost" in headless.errors(1)


SERVER = """
import sys, tensorflow as tf
cluster = tf.train.ClusterSpec({"worker": sys.argv[1:]})
server = tf.distribute.Server(cluster, job_name="worker", task_index=1)
server.join()
"""


def wait_for_server(address):
    host, port = address.split(":")
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return socket.create_connection((host, int(port)), 1).close()
        time.sleep(0.1)
    raise TimeoutError(address)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_worker_that_only_starts_its_server_is_named(config, tmp_path, is_killed):
    """As one does that ends, or is paused, before it has joined the others."""
    short = "runtime.worker_timeout=20"
    with Workers(2, config, tmp_path / "run", short, absent=[0, 1]) as alone:
        command = [sys.executable, "-c", SERVER, *alone.addresses]
        with subprocess.Popen(command) as server:
            wait_for_server(alone.addresses[1])
            alone.start(0)
            if is_killed:
                wait_for_server(alone.addresses[0])  # the chief has seen the worker
                server.kill()
            message = r"worker 1 \(localhost:\d+\) did not come within 20 s"
            assert_fails(alone, [75], message)
            server.kill()


def test_the_difference_between_configs_is_named(config, tmp_path):
    own = {1: ["task.clip.temporal_stride=1"]}
    with Workers(2, config, tmp_path / "run", own=own) as workers:
        workers.wait()
    message = (
        "lacks task.clip.temporal_stride: 2; has besides task.clip.temporal_stride: 1"
    )
    for i in range(2):
        assert message in workers.errors(i)
    assert not (tmp_path / "run" / "params.yaml").exists()


@pytest.fixture
def other_disk(videos, tmp_path):
    """A copy of the videos, at the same path on another machine."""
    return shutil.copytree(videos, tmp_path / "disk")


RELATIVE = "task.train_data.input_path=train"


def test_a_video_that_a_worker_lacks_is_named(config, videos, other_disk, tmp_path):
    (other_disk / "train" / "red" / "1.mp4").unlink()
    cwd = {0: videos, 1: other_disk}
    with Workers(2, config, tmp_path / "run", RELATIVE, cwd=cwd) as workers:
        workers.wait()
    for i in range(2):
        assert "must have the same training videos" in workers.errors(i)
        assert "): lacks train/red/1.mp4 (label 2)" in workers.errors(i)


def test_an_error_of_one_worker_ends_all_with_it(config, videos, other_disk, tmp_path):
    for path in (other_disk / "train").rglob("*.mp4"):
        path.write_text("not a video")
    cwd = {0: videos, 1: other_disk}
    with Workers(2, config, tmp_path / "run", RELATIVE, cwd=cwd) as workers:
        message = (
            r"worker 1 \(localhost:\d+\): 10 of the 10 videos read so far could not"
        )
        assert_fails(workers, [1, 1], message)


def test_the_example_trains_with_two_workers(config, tmp_path):
    script = ROOT / "examples" / "two_workers.sh"
    flags = ["--config", config, "--mode", "train", "--model_dir", tmp_path / "run"]
    done = subprocess.run(
        [script, *flags, "--params_override=trainer.train_steps=2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("At step 2; see") == 1  # by the chief alone
    assert checkpoint_files.find(tmp_path / "run").endswith("ckpt-2")
