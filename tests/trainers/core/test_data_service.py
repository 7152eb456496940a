"""The trainer's side of a tf.data service; `tests/trainers/test_data_service.py` has
the workers."""

import itertools
import socket
from concurrent import futures

import grpc
import pytest
import tensorflow as tf

from trainers.core import data_service
from trainers.core.errors import UserError

SERVICE = "python trainers/data_worker.py --mode"


def take(count, numbers, start=0, patience=20.0, made=None):
    """What is yielded for batches that come as `numbers`; a value is its number."""

    def make(number):
        made.append(number)
        return [tf.constant(number)]

    batches = tf.data.Dataset.from_generator(
        lambda: ((n, n) for n in numbers), output_signature=(tf.TensorSpec(()),) * 2
    )
    found = data_service.in_order(batches, start, make, patience)
    return [int(values[0]) for values in itertools.islice(found, count)]


def test_batches_are_put_in_order():
    assert take(5, [2, 0, 1, 4, 3]) == [0, 1, 2, 3, 4]
    assert take(3, [7, 6, 5], start=5) == [5, 6, 7]


def test_a_batch_that_comes_twice_is_used_once():
    assert take(5, [0, 0, 2, 1, 1, 3, 2, 4]) == [0, 1, 2, 3, 4]


def test_a_lost_batch_is_made_here_once_many_later_ones_have_come():
    made = []
    others = [n for n in range(200) if n not in (1, 4)]
    assert take(100, others, patience=100, made=made) == list(range(100))
    assert made == [1, 4]


def test_a_lost_batch_is_made_here_when_it_was_waited_for(capsys):
    made = []
    assert take(4, [0, 2], patience=0.2, made=made) == [0, 1, 2, 3]
    assert {1, 3} <= set(made)
    warning = "has not come from the tf.data service in 0.2 seconds"
    assert warning in capsys.readouterr().err


def test_the_end_of_the_service_is_one_error():
    def fail(n):
        with tf.control_dependencies([tf.debugging.assert_less(n, 2, "gone")]):
            return n, tf.identity(n)

    batches = tf.data.Dataset.range(3, output_type=tf.int32).map(fail)
    found = data_service.in_order(batches, 0, None)
    assert [int(next(found)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match="ended with an error: .*gone.*resumed"):
        next(found)


@pytest.fixture
def port():
    """Of a server that accepts connections and says nothing."""
    with socket.create_server(("localhost", 0)) as server:
        yield server.getsockname()[1]


def test_an_address_without_a_service_is_an_error(port):
    for address in (f"grpc://localhost:{port}", "localhost:1", "no.such.host:5050"):
        with pytest.raises(UserError, match=f"No tf.data service answers at {address}"):
            data_service.check(address, seconds=0.3)


def test_another_server_is_an_error():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with pytest.raises(UserError, match=f"localhost:{port} is no dispatcher of a"):
            data_service.check(f"localhost:{port}", seconds=5)
    finally:
        server.stop(0)


def test_a_dispatcher_without_workers_is_an_error():
    dispatcher = data_service.start_dispatcher(0)
    address = dispatcher.target
    data_service.check(address, needs_worker=False)
    with pytest.raises(UserError, match=f"has no workers.*`{SERVICE} worker"):
        data_service.check(address, seconds=0.3)


def test_a_port_in_use_is_an_error(port):
    with pytest.raises(UserError, match=f"cannot be started: .*--port {port}"):
        data_service.start_dispatcher(port)
