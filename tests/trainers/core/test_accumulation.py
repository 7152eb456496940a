"""A batch in parts against the batch at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.core import toy_task
from trainers.core import config
from trainers.core.accumulation import accumulate, part_of
from trainers.core.errors import UserError


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_parts_of_all_replicas_are_the_same_examples(replicas):
    """In the same order, however many replicas share the batch."""
    batch = {"x": tf.reshape(tf.range(48), (12, 2, 2)), "y": tf.range(12)}
    size = 12 // replicas
    for i in range(2):
        parts = [
            part_of({k: v[j : j + size] for k, v in batch.items()}, tf.constant(i), 2)
            for j in range(0, 12, size)
        ]
        for name, value in batch.items():
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(joined, value[i::2])


def test_static_sizes_stay_static():
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec((4, None, 3))])
    def part(x):
        shapes.append(part_of(x, tf.constant(1), 2).shape.as_list())
        return part_of(x, tf.constant(1), 2)

    x = tf.reshape(tf.range(24.0), (4, 2, 3))
    np.testing.assert_array_equal(part(x), x[1::2])
    assert shapes[0] == [2, None, 3]


def one_step(weights, num_parts):
    """Gradients and sums of the toy, of a batch of six in parts."""
    keras.utils.set_random_seed(0)
    task = toy_task.ToyTask(toy_task.ToyTaskConfig(batch_norm=False))
    model = task.build_model()
    model.get_layer("conv").kernel_regularizer = keras.regularizers.L2(0.1)
    x, y = toy_task.make_batch(0, 6)
    step = [0] * 6
    inputs = {"x": x, "y": y, "weight": np.float32(weights), "step": step}
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    optimizer = keras.optimizers.SGD()

    def compute(index, inputs, total):
        part = part_of(inputs, index, num_parts)
        return task.gradients(part, model, optimizer, total, num_parts)

    @tf.function
    def step_of(inputs):
        total = task.total_weight(inputs)
        strategy = tf.distribute.get_strategy()
        return accumulate(strategy, compute, num_parts, (inputs, total))

    return tf.nest.map_structure(np.array, step_of(inputs))


@pytest.mark.parametrize("num_parts", [2, 3, 6])
def test_parts_add_up_to_the_batch(num_parts):
    """Examples of weight 0 are in some parts; the regularizer counts once."""
    weights = [1.0, 0.5, 2.0, 1.0, 0.0, 0.0]
    whole, parts = one_step(weights, 1), one_step(weights, num_parts)
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(parts), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
    assert parts[1]["loss"][1] == 4.5


def test_weights_and_regularizer_count_in_parts():
    even, uneven = one_step([1.0] * 6, 1), one_step([1.0, 0.5, 2.0, 1.0, 0.0, 0.0], 1)
    assert np.abs(even[0][0] - uneven[0][0]).max() > 1e-3


@pytest.mark.parametrize(("batch", "replicas", "parts"), [(6, 2, 3), (5, 1, 1)])
def test_batches_that_divide_pass(batch, replicas, parts):
    experiment(batch, parts).check_batch(replicas)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (2, r"is 6, .*2 replicas in 2 parts .*multiple of 4, such as 8"),
        (4, r"is 6, .*2 replicas in 4 parts .*multiple of 8, such as 8"),
    ],
)
def test_batches_that_do_not_divide_are_refused(parts, message):
    with pytest.raises(UserError, match=message):
        experiment(6, parts).check_batch(2)


def test_a_batch_that_the_replicas_cannot_share_is_refused():
    with pytest.raises(UserError, match="is 6, .*by 4 replicas: .*multiple of 4"):
        experiment(6, 1).check_batch(4)


def experiment(batch, parts):
    overrides = [
        f"task.train_data.global_batch_size={batch}",
        f"trainer.gradient_accumulation_steps={parts}",
    ]
    return config.load_experiment([], overrides, "toy")[1]
