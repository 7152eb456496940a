"""tf.data service: batches that other processes make, on this machine or others.

A dispatcher hands out the numbers of batches, each once, and its workers make them.
What they send is put in order here, and a batch that was lost with its worker is made
in this process: training gets the batches that it would make by itself.

The graph of a dataset has no Python functions, only a token for each, and a worker has
functions of its own under such tokens. So a worker registers one function before any
other, and a dataset calls the first token.
"""

import contextlib
import itertools
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import grpc
import tensorflow as tf

from trainers.core import files
from trainers.core.errors import UserError, warn

_TOKEN = "pyfunc_0"
_LAST = 2**62  # training batches never end
_MAX_EARLY = 64  # batches kept until it is their turn
_MAX_REQUESTED = 32
_HOW_TO_START = "python trainers/data_worker.py --mode"
_GET_WORKERS = "/tensorflow.data.DispatcherService/GetWorkers"

# === Trainer ===


def check(address: str, needs_worker: bool = True, seconds: float = 20.0):
    """Waits until a dispatcher answers, and has a worker.

    Args:
        address: `HOST:PORT`, also with `grpc://` before it.
        needs_worker: False is content with the dispatcher.
        seconds: To wait for each of the two.

    Raises:
        UserError: Nothing answers, something else does, or there is no worker.
    """
    with grpc.insecure_channel(_host(address)) as channel:
        get_workers = channel.unary_unary(_GET_WORKERS)
        try:
            grpc.channel_ready_future(channel).result(seconds)
            deadline = time.monotonic() + seconds
            while not get_workers(b"", timeout=seconds) and needs_worker:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"The tf.data service at {address} has no workers. Start some: "
                        f"`{_HOW_TO_START} worker --dispatcher HOST:PORT`."
                    )
                time.sleep(0.1)
        except grpc.FutureTimeoutError as error:
            raise UserError(
                f"No tf.data service answers at {address}. Start a dispatcher there "
                f"(`{_HOW_TO_START} dispatcher`), or correct the address."
            ) from error
        except grpc.RpcError as error:
            raise UserError(
                f"What answers at {address} is no dispatcher of a tf.data service "
                f"({error.details()}): correct the address."
            ) from error


def _host(address: str) -> str:
    return address.removeprefix("grpc://")


def numbered_batches(
    address: str,
    request: str,
    types: Sequence[tf.DType],
    start: int,
    job_name: str | None = None,
) -> tf.data.Dataset:
    """(number, *values) from the service, from number `start` on, almost in order.

    Args:
        address: Of a dispatcher.
        request: Passed to the function of the workers, with a number.
        types: Of the values that it returns.
        start: Number of the first batch.
        job_name: For the dispatcher's log.
    """

    def make(number):
        values = tf.raw_ops.PyFuncStateless(
            input=[tf.constant(request), number], token=_TOKEN, Tout=types
        )
        return number, *values

    service = tf.data.experimental.service
    numbers = tf.data.Dataset.range(start, _LAST)
    return numbers.map(make, num_parallel_calls=tf.data.AUTOTUNE).apply(
        service.distribute(
            processing_mode=service.ShardingPolicy.DYNAMIC,
            service=f"grpc://{_host(address)}",
            # No two iterations share a job: each would get a part of the batches.
            job_name=f"{job_name}_{uuid.uuid4().hex}" if job_name else None,
            max_outstanding_requests=_MAX_REQUESTED,
            compression=None,  # pixels hardly shrink
        )
    )


def in_order(
    batches: tf.data.Dataset,
    start: int,
    make: Callable[[int], list],
    patience: float = 20.0,
) -> Iterator[list]:
    """Yields the values of batches `start`, `start + 1`, ..., each once.

    Args:
        batches: (number, *values) in any order; some may be missing, or come twice.
        start: Number of the first batch.
        make: Makes the values of a batch in this process, if it does not come.
        patience: Seconds that a batch is waited for.

    Raises:
        UserError: `batches` ended with an error.
    """
    with _Receiver(batches, patience) as receiver:
        early = {}
        for number in itertools.count(start):
            receiver.collect(number, early)
            yield early.pop(number) if number in early else make(number)


class _Receiver:
    """Receives numbered batches in a thread, because waiting for one has no limit."""

    def __init__(self, dataset: tf.data.Dataset, patience: float):
        self._dataset = dataset
        self._patience = patience
        self._received = queue.Queue(maxsize=1)
        self._is_closed = threading.Event()
        self._is_silent = False

    def __enter__(self):
        threading.Thread(target=self._receive, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._is_closed.set()

    def collect(self, number: int, batches: dict):
        """Receives batches until `number` is one of them, or is given up."""
        deadline = time.monotonic() + self._patience
        while number not in batches and len(batches) < _MAX_EARLY:
            try:
                # When nothing has come for long, what has come since is taken only.
                left = 0 if self._is_silent else deadline - time.monotonic()
                found, values = self._received.get(timeout=max(left, 0.001))
            except queue.Empty:
                self._warn(number)
                self._is_silent = True
                return
            if isinstance(values, Exception):
                raise UserError(
                    f"The tf.data service ended with an error: {files.reason(values)} "
                    "Training can be resumed, with another tf_data_service_address or "
                    "with enable_tf_data_service=false."
                ) from values
            self._is_silent = False
            if found >= number:  # else it was given up
                batches[found] = values

    def _warn(self, number: int):
        if not self._is_silent:
            warn(
                f"batch {number} has not come from the tf.data service in "
                f"{self._patience:g} seconds. This process makes it, and others until "
                "the workers send some again."
            )

    def _receive(self):
        try:
            for number, *values in self._dataset:
                self._put((int(number), values))
                if self._is_closed.is_set():
                    return
        except tf.errors.OpError as error:
            self._put((-1, error))

    def _put(self, item):
        while not self._is_closed.is_set():
            try:
                return self._received.put(item, timeout=1)
            except queue.Full:
                continue


# === Dispatcher and workers ===


def register(make: Callable[[bytes, int], list]):
    """Registers the function of this worker, the first Python function in a graph.

    Args:
        make: Called with a request and a number; returns numpy arrays.

    Returns:
        An object to keep as long as the worker runs.
    """

    @tf.function(autograph=False)
    def call(request, number):
        return tf.numpy_function(make, [request, number], [tf.string], stateful=False)

    scalars = (tf.TensorSpec((), dtype) for dtype in (tf.string, tf.int64))
    graph = call.get_concrete_function(*scalars).graph
    tokens = [op.get_attr("token") for op in graph.get_operations() if "Py" in op.type]
    if tokens != [_TOKEN.encode()]:
        raise RuntimeError(f"Expected the token {_TOKEN}. Received: {tokens}.")
    return graph


def start_dispatcher(port: int, work_dir: str = ""):
    """Starts a dispatcher in this process; returns it, with its `target`.

    Args:
        port: 0 for any that is free.
        work_dir: Keeps its state, so that it can be started again; empty does not.

    Raises:
        UserError: The port is in use, or `work_dir` cannot be written.
    """
    service = tf.data.experimental.service
    config = service.DispatcherConfig(
        port=port, work_dir=work_dir or None, fault_tolerant_mode=bool(work_dir)
    )
    with _starting("dispatcher", f"--port {port} and --work_dir {work_dir!r}"):
        return service.DispatchServer(config)


def start_worker(dispatcher: str, port: int = 0, host: str = "localhost"):
    """Starts a worker in this process; returns it.

    Args:
        dispatcher: Its address.
        port: 0 for any that is free.
        host: Name or address that trainers reach this machine by.

    Raises:
        UserError: No dispatcher answers, or the port is in use.
    """
    check(dispatcher, needs_worker=False)
    service = tf.data.experimental.service
    config = service.WorkerConfig(
        dispatcher_address=_host(dispatcher),
        worker_address=f"{host}:%port%",
        port=port,
    )
    with _starting("worker", f"--dispatcher {dispatcher} and --port {port}"):
        return service.WorkerServer(config)


@contextlib.contextmanager
def _starting(what: str, flags: str) -> Iterator[None]:
    """Turns TensorFlow's errors into one that names the flags to check."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            f"The {what} cannot be started: {files.reason(error)} Check {flags}."
        ) from error
