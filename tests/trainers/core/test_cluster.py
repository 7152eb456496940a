"""Clusters are read from TF_CONFIG or the config; a wrong one is one message."""

import json
import socket

import pytest

from trainers.core import agreement, cluster, config, distribution
from trainers.core.config_definitions import ExperimentConfig, RuntimeConfig
from trainers.core.errors import UserError

TWO = {"worker": ["a:1", "b:2"]}


@pytest.fixture
def found(monkeypatch):
    """Function that finds a cluster in a TF_CONFIG and the fields of a config."""

    def find(tf_config, **fields):
        monkeypatch.setenv("TF_CONFIG", tf_config)
        return cluster.find(RuntimeConfig(**fields))

    return find


def tf_config(jobs=TWO, job="worker", index=1):
    return json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})


def test_workers_are_found_in_tf_config(found):
    two = found(tf_config())
    assert [str(x) for x in two.workers] == ["worker 0 (a:1)", "worker 1 (b:2)"]
    assert two.this is two.workers[1] and two.chief is two.workers[0]


def test_a_chief_is_the_first_worker(found):
    three = found(tf_config({"worker": ["b:2", "c:3"], "chief": ["a:1"]}))
    assert [x.address for x in three.workers] == ["a:1", "b:2", "c:3"]
    assert three.rank == 2 and three.chief.task == "/job:chief/replica:0/task:0"


def test_workers_are_found_in_the_config_unless_tf_config_is_set(found):
    fields = {"worker_hosts": "a:1, b:2", "task_index": 1}
    assert found("{}", **fields) == found("", **fields) == found(tf_config())
    other = tf_config({"worker": ["c:3"]}, index=0)
    assert found(other, **fields).this.address == "c:3"
    assert found("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG is not JSON .*Expected {"),
        ("[]", "TF_CONFIG has no `cluster`"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG has no `task`"),
        (tf_config(index=2), "'worker' number 2. Expected .*worker 0, worker 1"),
        (tf_config(index=None), "number None"),
        (tf_config(job="ps"), "'ps' number 1"),
        (tf_config({"worker": ["a"]}), r"'worker' is \['a'\]. Expected .*host:port"),
        (tf_config({"worker": []}), "host:port"),
        (tf_config({**TWO, "ps": ["c:3"]}), "'ps' is .* Expected `worker`"),
        (tf_config({"worker": ["a:1", "a:1"]}), "a:1 twice"),
        (tf_config({**TWO, "chief": ["c:3", "d:4"]}), "more than one chief"),
    ],
)
def test_a_wrong_tf_config_is_one_message(found, text, message):
    with pytest.raises(UserError, match=message):
        found(text)


@pytest.mark.parametrize("text", ["{", '{"cluster": 3}'])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_wrong_tf_config_is_one_message_without_workers(
    monkeypatch, text, num_devices
):
    monkeypatch.setenv("TF_CONFIG", text)
    runtime = RuntimeConfig(num_gpus=0, num_cpu_devices=num_devices)
    with pytest.raises(UserError, match="TF_CONFIG"):
        distribution.build_strategy(runtime)


@pytest.mark.parametrize("index", [-1, 7])
def test_a_wrong_number_of_a_worker_is_one_message(found, index):
    with pytest.raises(UserError, match="runtime.task_index: .* worker 0, worker 1"):
        found("", worker_hosts="a:1,b:2", task_index=index)


def test_the_number_of_a_worker_without_a_list_is_one_message(found):
    for hosts in (None, ""):
        with pytest.raises(UserError, match="task_index is 0, but .*worker_hosts"):
            found("", worker_hosts=hosts, task_index=0)


def test_workers_that_train_must_be_named(monkeypatch):
    """One worker is named, too; other strategies need none."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    several = {"distribution_strategy": "multi_worker_mirrored"}
    for hosts in (None, ""):
        with pytest.raises(UserError, match="set TF_CONFIG.* or runtime.worker_hosts"):
            cluster.check_named(RuntimeConfig(**several, worker_hosts=hosts))
    cluster.check_named(RuntimeConfig(**several, worker_hosts="localhost:1"))
    cluster.check_named(RuntimeConfig())
    monkeypatch.setenv("TF_CONFIG", tf_config())
    cluster.check_named(RuntimeConfig(**several))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"worker_timeout": 0}, "runtime.worker_timeout must be positive"),
        ({"all_reduce_alg": "rnig"}, "Did you mean 'ring'"),
    ],
)
def test_a_wrong_setting_of_workers_is_named(settings, message):
    settings["distribution_strategy"] = "multi_worker_mirrored"
    with pytest.raises(UserError, match=message):
        distribution.build_strategy(RuntimeConfig(**settings))


def test_a_worker_that_does_not_come_is_named(found):
    """Neither one without a process nor one whose port has another server."""
    with socket.create_server(("localhost", 0)) as other:
        address = f"localhost:{other.getsockname()[1]}"
        two = found(tf_config({"worker": ["localhost:9", "localhost:2", address]}))
        with pytest.raises(UserError) as info:
            cluster._wait_for(two.workers[1:], 1)
    assert "worker 1 (localhost:2), worker 2 (localhost:" in str(info.value)
    assert "did not come within 1 s (runtime.worker_timeout)" in str(info.value)


def test_which_worker_this_is_is_not_saved(tmp_path):
    experiment = ExperimentConfig()
    experiment.runtime.worker_hosts, experiment.runtime.task_index = "a:1,b:2", 1
    config.save_params(experiment, "toy", str(tmp_path))
    saved = (tmp_path / "params.yaml").read_text()
    assert "distribution_strategy" in saved
    assert "task_index" not in saved and "worker_hosts" not in saved
    assert config.differences(experiment, "toy", str(tmp_path)) == []
    assert not any("task_index" in x for x in config.lines(experiment, "toy"))


def test_differences_between_workers_are_named(found):
    three = found(tf_config({"worker": ["a:1", "b:2", "c:3"]}))
    lines = [["x", "y", "z"], ["y", "z", "é", "v", "w", "u"], ["y", "x", "z"]]
    assert agreement._differences(three, "classes", lines).splitlines() == [
        "The workers must have the same classes, but these differ from worker 0 (a:1):",
        "  worker 1 (b:2): lacks x; has besides u, v, w and 1 more",
        "  worker 2 (c:3): has the same in another order",
    ]


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("OOM on /job:worker/replica:0/task:1/device:GPU:0", []),  # of this worker
        ("remote target /job:worker/replica:0/task:0 while calling", ["a:1"]),
        ("Error reported from /job:worker/task:2: stopped", ["c:3"]),
    ],
)
def test_other_workers_are_told_from_this_one(found, message, names):
    three = found(tf_config({"worker": ["a:1", "b:2", "c:3"]}))
    assert [x.address for x in three.others_in(message)] == names
    assert agreement._is_elsewhere(three, message) == bool(names)
    assert agreement._is_elsewhere(three, "Collective ops is aborted by: Unavailable")
