"""The workers of a training: processes that train together, on several machines.

They are listed in TF_CONFIG or `runtime.worker_hosts`. TensorFlow's coordination
service, which runs in the chief, watches them: when one reports an error or is lost, it
aborts the collective operations of all.
"""

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Mapping

import grpc
import tensorflow as tf
from tensorflow.python.eager import context  # the service has no public API

from trainers.core import files
from trainers.core.errors import UserError

_JOBS = ("chief", "worker")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:port", "host1:port"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_HEARTBEAT_SECONDS = 30  # without a heartbeat, a worker is lost
# A worker in TensorFlow's messages.
_TASK = re.compile(r"/job:(\w+)/(?:replica:0/)?task:(\d+)")
_CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class WorkerError(UserError):
    """An error of another worker, which ends this one too."""


class LostWorkerError(WorkerError):
    """Another worker did not join, was killed, or its machine cannot be reached."""

    exit_code = 75  # EX_TEMPFAIL: the same command may succeed later


@dataclasses.dataclass(frozen=True)
class Worker:
    """One process of a cluster.

    Attributes:
        job: `chief` or `worker`.
        index: Its number among those of the same job.
        address: `host:port`.
    """

    job: str
    index: int
    address: str

    def __str__(self):
        return f"{self.job} {self.index} ({self.address})"

    @property
    def task(self) -> str:
        """Its name in TensorFlow."""
        return f"/job:{self.job}/replica:0/task:{self.index}"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All workers of a training, and which of them this process is.

    Attributes:
        workers: The chief is the first.
        rank: Position of this process in `workers`.
    """

    workers: tuple[Worker, ...]
    rank: int

    @property
    def chief(self) -> Worker:
        return self.workers[0]

    @property
    def this(self) -> Worker:
        return self.workers[self.rank]

    def others_in(self, text: str) -> list[Worker]:
        """The other workers that a message of TensorFlow's names."""
        tasks = {(job, int(index)) for job, index in _TASK.findall(text)}
        return [w for w in self.workers if (w.job, w.index) in tasks and w != self.this]


# === Find ===


def find(runtime) -> Cluster | None:
    """The cluster in TF_CONFIG, else in `runtime.worker_hosts`; None if there is none.

    Raises:
        UserError: One that is incomplete or contradicts itself.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if text not in ("", "{}"):
        return _from_tf_config(text)
    if not runtime.worker_hosts:
        if runtime.task_index >= 0:
            raise UserError(
                f"runtime.task_index is {runtime.task_index}, but runtime.worker_hosts "
                "names no worker: list all of them there, such as host0:12345,"
                "host1:12345, or leave out both."
            )
        return None
    hosts = [host.strip() for host in runtime.worker_hosts.split(",")]
    index = 0 if len(hosts) == 1 else runtime.task_index
    where = "runtime.worker_hosts and runtime.task_index"
    return _cluster({"worker": hosts}, "worker", index, where)


def check_named(runtime):
    """Raises a `UserError` if several workers are to train and none is named.

    Each of them would train alone. Other modes also run without the others.
    """
    strategy = runtime.distribution_strategy
    if strategy == "multi_worker_mirrored" and find(runtime) is None:
        raise UserError(
            f"runtime.distribution_strategy is {strategy!r}, but no worker is named: "
            f"set TF_CONFIG, such as {_EXAMPLE}, or runtime.worker_hosts and "
            "runtime.task_index (runtime.worker_hosts=localhost:12345 for one worker). "
            "Without other machines, use runtime.distribution_strategy=mirrored."
        )


def _from_tf_config(text: str) -> Cluster:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(
            f"TF_CONFIG is not JSON ({error}). Expected {_EXAMPLE}."
        ) from error
    parts = found if isinstance(found, dict) else {}
    for name in ("cluster", "task"):
        if not isinstance(parts.get(name), dict):
            raise UserError(f"TF_CONFIG has no `{name}`. Expected {_EXAMPLE}.")
    task = parts["task"]
    return _cluster(parts["cluster"], task.get("type"), task.get("index"), "TF_CONFIG")


def _cluster(jobs: Mapping, job, index, where: str) -> Cluster:
    for name, hosts in jobs.items():
        if name not in _JOBS or not _are_addresses(hosts):
            raise UserError(
                f"{where}: {name!r} is {hosts!r}. Expected `worker`, and optionally "
                "`chief`, each with a list of addresses `host:port`."
            )
    workers = [
        Worker(name, i, address)
        for name in _JOBS
        for i, address in enumerate(jobs.get(name, ()))
    ]
    addresses = [worker.address for worker in workers]
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice or len(jobs.get("chief", ())) > 1:
        problem = f"{', '.join(twice)} twice" if twice else "more than one chief"
        raise UserError(f"{where}: the cluster has {problem}.")
    known = [(worker.job, worker.index) for worker in workers]
    is_number = isinstance(index, int | str) and str(index).isdecimal()
    if not is_number or (job, int(index)) not in known:
        raise UserError(
            f"{where}: this process is {job!r} number {index!r}. Expected one of the "
            f"cluster: {', '.join(f'{name} {i}' for name, i in known)}."
        )
    return Cluster(tuple(workers), known.index((job, int(index))))


def _are_addresses(hosts) -> bool:
    return (
        isinstance(hosts, list)
        and bool(hosts)
        and all(isinstance(x, str) and re.fullmatch(r"\S+:\d+", x) for x in hosts)
    )


def of(strategy: tf.distribute.Strategy) -> Cluster | None:
    """The cluster that a strategy is connected to; None for one process."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    if sum(map(len, jobs.values())) < 2:
        return None
    return _cluster(jobs, resolver.task_type, resolver.task_id, "the cluster")


# === Connect ===


def connect(
    cluster: Cluster,
    num_gpus: int,
    options: tf.distribute.experimental.CommunicationOptions,
    timeout: float,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for the other workers, and connects to them.

    Args:
        cluster: From `find`.
        num_gpus: Of each worker; 0 for its CPU.
        options: Of collective operations.
        timeout: Seconds to wait for the others.

    Raises:
        LostWorkerError: One does not come; names it.
        UserError: This one cannot take part.
    """
    print(
        f"This is {cluster.this} of {len(cluster.workers)} workers; the chief is "
        f"{cluster.chief}.",
        file=sys.stderr,
    )
    if cluster.rank == 0:  # TensorFlow's chief would wait for an hour
        _wait_for(cluster.workers[1:], timeout)
    _configure_coordination(cluster, timeout)
    jobs = {job: [w.address for w in cluster.workers if w.job == job] for job in _JOBS}
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({job: hosts for job, hosts in jobs.items() if hosts}),
        task_type=cluster.this.job,
        task_id=cluster.this.index,
        num_accelerators={"GPU": num_gpus} if num_gpus else {},
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except tf.errors.OpError as error:
        raise _not_connected(cluster, error, timeout) from error


def _wait_for(workers, timeout: float):
    deadline = time.monotonic() + timeout
    missing = [str(x) for x in workers if not _answers(x, deadline - time.monotonic())]
    if missing:
        raise _did_not_come(missing, timeout)


def _answers(worker: Worker, seconds: float) -> bool:
    """Whether TensorFlow's server at the address of a worker is that worker."""
    with grpc.insecure_channel(worker.address, options=_CHANNEL) as channel:
        ask = channel.unary_unary("/tensorflow.WorkerService/GetStatus")
        try:
            found = ask(b"", timeout=max(seconds, 0.5), wait_for_ready=True)
        except grpc.RpcError:
            return False
    return f"{worker.task}/".encode() in found


def others_without_answer(cluster: Cluster) -> list[Worker]:
    """The other workers that do not answer now."""
    return [worker for worker in _others(cluster) if not _answers(worker, 1)]


def _others(cluster: Cluster) -> list[Worker]:
    return [worker for worker in cluster.workers if worker != cluster.this]


def _did_not_come(names, timeout: float) -> LostWorkerError:
    return LostWorkerError(
        f"{', '.join(map(str, names))} did not come within {timeout:g} s "
        "(runtime.worker_timeout). Look at its output; check that all workers have the "
        "same list of addresses and that these can be reached."
    )


def _not_connected(cluster: Cluster, error, timeout: float) -> UserError:
    if "Could not start gRPC server" in str(error):
        return UserError(
            f"{cluster.this} cannot listen at its address: the port is in use, or the "
            "host is another machine. Choose another port for all workers."
        )
    missing = cluster.others_in(str(error)) or others_without_answer(cluster)
    if cluster.rank and isinstance(error, tf.errors.DeadlineExceededError):
        return _did_not_come([cluster.chief], timeout)
    if missing:  # or gone, after the chief had seen it
        return _did_not_come(missing, timeout)
    return UserError(
        f"{cluster.this} cannot connect to the others: {files.reason(error)}"
    )


def _configure_coordination(cluster: Cluster, timeout: float):
    coordination = tf.compat.v1.ConfigProto().experimental.coordination_config
    for job in _JOBS:
        if count := sum(worker.job == job for worker in cluster.workers):
            coordination.coordinated_job_list.add(name=job, num_tasks=count)
    context.context().configure_coordination_service(
        "standalone",
        cluster.chief.task,
        cluster_register_timeout_in_ms=round(1000 * timeout),
        heartbeat_timeout_in_ms=1000 * _HEARTBEAT_SECONDS,
        coordinated_jobs=list(coordination.coordinated_job_list),
    )
    # Else the chief waits without a limit for a worker that ends before it registers.
    context.context().coordination_service.cluster_register_with_barrier = True
