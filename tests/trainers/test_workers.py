"""Several workers: processes that train, evaluate, save and end as one does."""

import json

import numpy as np
import pytest

from tests.trainers.workers import Workers, examples
from trainers.core import checkpoint_files

pytestmark = pytest.mark.slow

SGD = "trainer.optimizer_config.optimizer.sgd"
# With batch normalisation over all replicas and dropout off (each replica has its own
# masks), everything is the same however a batch of 12 is divided.
TRAINING = (
    "task.train_data.global_batch_size=12",
    "task.validation_data.global_batch_size=12",
    "task.model.dropout_rate=0",
    "trainer.train_steps=20",
    "trainer.validation_interval=20",
    "trainer.checkpoint_interval=10",
    "trainer.gradient_accumulation_steps=2",
    f"{SGD}.global_clipnorm=0.5",
    f"{SGD}.weight_decay=0.01",
    "runtime.synchronize_batch_norm=true",
)
MIRRORED = "runtime.distribution_strategy=mirrored"


def run(num_workers, *arguments, **options):
    with Workers(num_workers, *arguments, **options) as workers:
        workers.finish()
    return workers


def weights(folder):
    prefix = checkpoint_files.find(folder)
    return {k: v for k, v in checkpoint_files.read(prefix) if k.startswith("model/")}


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
    """(processes, replicas of each) -> the folder of a whole training."""
    folder = tmp_path_factory.mktemp("runs")
    devices = ("runtime.num_cpu_devices=2", MIRRORED)
    return {
        (1, 2): run(1, config, folder / "replicas", *TRAINING, *devices).folder,
        (2, 1): run(2, config, folder / "two", *TRAINING).folder,
        (3, 1): run(3, config, folder / "three", *TRAINING).folder,
    }


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_train_as_replicas_of_one_process(runs, workers):
    """The same batches, and the same weights after 20 steps."""
    one, several = runs[1, 2], runs[workers, 1]
    assert examples(several, workers) == examples(one, 1)
    assert_close(weights(one), weights(several))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_evaluation_of_workers_is_that_of_one_process(runs, workers):
    one, several = results(runs[1, 2]), results(runs[workers, 1])
    losses = [found.pop("validation_loss") for found in (one, several)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert one == several
    assert one["num_videos"] == 6 and len(one["broken"]) == 1


@pytest.mark.parametrize("workers", [2, 3])
def test_only_the_chief_writes_and_nothing_is_left(runs, workers):
    def names(folder):
        return sorted(x.name for x in folder.rglob("*") if "events" not in x.name)

    several = runs[workers, 1]
    assert names(several) == names(runs[1, 2])
    assert len(list(several.rglob("events*"))) == 2  # of training and of evaluation
    assert "worker_hosts" not in (several / "params.yaml").read_text()


def test_one_process_evaluates_what_workers_have_trained(runs, config, tmp_path):
    """To the digit, at equal batches of a replica: 12 of three workers are 4 of one."""
    folder = runs[3, 1]
    files = [str(folder / "params.yaml")]
    before = results(folder)
    batch = "task.validation_data.global_batch_size=4"
    run(1, files[0], folder, batch, MIRRORED, mode="eval")
    alone = results(folder)
    run(3, files[0], folder, mode="eval")
    together = results(folder)
    assert alone == together
    assert alone["num_views"] == 2 * before["num_views"]
