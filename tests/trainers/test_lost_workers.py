"""Workers that are killed, stopped, paused or out of disk; and in smaller parts."""

import random
import signal
import time

import pytest

from tests.trainers.test_workers import (
    REPLICAS,
    TRAINING,
    assert_close,
    assert_fails,
    run,
    state,
)
from tests.trainers.workers import Workers, check_examples

pytestmark = pytest.mark.hostile

ENDS = {0, 75, 143}  # trained to the end, lost another worker, stopped


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """An uninterrupted training of one process with two replicas."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return run(1, config, folder, *TRAINING, *REPLICAS, mode="train")


def test_accumulated_gradients_are_the_same_for_any_number_of_workers(config, tmp_path):
    """Batch normalisation has the statistics of a part of the global batch."""
    options = (*TRAINING, "trainer.gradient_accumulation_steps=2")
    one = run(1, config, tmp_path / "one", *options, *REPLICAS)
    three = run(3, config, tmp_path / "three", *options)
    assert_close(state(one.folder), state(three.folder))


@pytest.mark.parametrize("seed", range(20))
def test_a_random_end_of_a_random_worker_loses_nothing(config, whole, tmp_path, seed):
    """In any step, or in the seconds before the first or after it."""
    chance = random.Random(seed)
    trainings = []
    for _ in range(chance.choice([1, 1, 2])):
        worker = chance.randrange(2)
        signum = chance.choice([signal.SIGKILL, signal.SIGTERM])
        with Workers(2, config, tmp_path / "run", *TRAINING, mode="train") as workers:
            if chance.random() < 0.8:
                workers.wait_for_step(chance.randrange(20), index=worker)
            time.sleep(chance.uniform(0, 1))
            workers.kill(worker, signum)
            codes = workers.wait()
        assert set(codes) <= ENDS | {-signum}, [workers.errors(i) for i in range(2)]
        assert not any("Traceback" in workers.errors(i) for i in range(2))
        trainings.append(workers)
    trainings.append(run(2, config, tmp_path / "run", *TRAINING, mode="train"))
    check_examples(whole.seen(), *trainings)
    assert_close(state(whole.folder), state(tmp_path / "run"))


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_gives_no_sign_of_life_is_lost(config, tmp_path, index):
    """Paused, as if its network were gone; the others end within a minute."""
    other = 1 - index
    steps = "trainer.train_steps=100000"
    with Workers(2, config, tmp_path / "run", steps) as workers:
        workers.wait_for_step(3)
        workers.kill(index, signal.SIGSTOP)
        start = time.monotonic()
        assert workers.processes[other].wait(90) == 75
        assert time.monotonic() - start < 60
    assert f"error: worker {index} (localhost" in workers.errors(other)


def test_a_full_disk_of_the_chief_ends_all(config, small_disk):
    folder = small_disk(100_000)
    with Workers(2, config, folder, "trainer.checkpoint_interval=2") as workers:
        assert_fails(workers, [1, 1], "ckpt-2: cannot be written .*Make room")
    assert "error: worker 0 (localhost" in workers.errors(1)


def test_a_loss_that_is_not_finite_ends_all(config, tmp_path):
    rate = "trainer.optimizer_config.learning_rate.constant.learning_rate=1.0e+30"
    with Workers(2, config, tmp_path / "run", rate) as workers:
        assert_fails(workers, [1, 1], "The loss is (nan|inf)")
