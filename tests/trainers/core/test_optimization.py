"""One update against the formulas, in float64 NumPy loops."""

import keras
import numpy as np
import pytest

from tests.trainers.core.rates import stepwise
from trainers.core import optimization, schedules
from trainers.core.config_definitions import RuntimeConfig
from trainers.core.errors import UserError

RATES = [0.1, 0.1, 0.01, 0.01]  # a drop after two steps


def small_model():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, bias_initializer="ones", name="dense"),
            keras.layers.BatchNormalization(name="bn"),
        ]
    )


def apply_all(config, model, gradients, dtype="float32"):
    optimizer = optimization.build_optimizer(
        config, RuntimeConfig(mixed_precision_dtype=dtype), batch_size=8
    )
    optimization.build_for(optimizer, model)
    norms = [
        optimization.apply_global_gradients(
            optimizer,
            model,
            [keras.ops.convert_to_tensor(g) for g in step],
            config=config.optimizer.get(),
        )
        for step in gradients
    ]
    return optimizer, [float(norm) for norm in norms]


def random_gradients(model, steps=4):
    random = np.random.default_rng(0)
    shapes = [v.shape for v in model.trainable_variables]
    return [
        [random.normal(size=s).astype(np.float32) for s in shapes] for _ in range(steps)
    ]


def caffe2_sgd(weight, gradients, decay, *, nesterov, scale_momentum, factor=1):
    """`MomentumSGDUpdate` with the learning rate inside the buffer."""
    weight, buffer = weight.astype(np.float64), 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True)):
        rate *= factor
        gradient = gradient + decay * weight
        if scale_momentum and step:
            buffer = buffer * RATES[step] / RATES[step - 1]
        previous, buffer = buffer, 0.9 * buffer + rate * gradient
        weight -= 1.9 * buffer - 0.9 * previous if nesterov else buffer
    return weight


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("correction", [True, False])
def test_sgd_is_caffe2s_with_coupled_decay_off_normalisation(nesterov, correction):
    config, model = stepwise(), small_model()
    sgd = config.optimizer.sgd
    sgd.nesterov, sgd.momentum_correction, sgd.weight_decay = nesterov, correction, 0.1
    before = [v.numpy() for v in model.trainable_variables]
    gradients = random_gradients(model)
    apply_all(config, model, gradients)
    for i, variable in enumerate(model.trainable_variables):
        is_norm = "bn" in variable.path
        expected = caffe2_sgd(
            before[i],
            [step[i] for step in gradients],
            0.0 if is_norm else 0.1,
            nesterov=nesterov,
            scale_momentum=correction,
        )
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=1e-6)


def test_biases_have_twice_the_rate_and_no_decay():
    config, model = stepwise(), small_model()
    sgd = config.optimizer.sgd
    sgd.weight_decay, sgd.bias_rate_factor, sgd.decay_biases = 0.1, 2.0, False
    before = [v.numpy() for v in model.trainable_variables]
    gradients = random_gradients(model)
    apply_all(config, model, gradients)
    for i, variable in enumerate(model.trainable_variables):
        expected = caffe2_sgd(
            before[i],
            [step[i] for step in gradients],
            0.1 if variable.path.endswith("kernel") else 0.0,
            nesterov=True,
            scale_momentum=True,
            factor=2 if variable.path.endswith("bias") else 1,
        )
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=1e-6)


def test_momentum_correction_matters_after_a_drop():
    results = []
    for correction in (True, False):
        keras.utils.set_random_seed(0)
        config, model = stepwise(), small_model()
        config.optimizer.sgd.momentum_correction = correction
        apply_all(config, model, random_gradients(model))
        results.append(model.get_weights()[0])
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_clipping_is_by_the_norm_of_the_whole_gradient_and_before_decay():
    config, model = stepwise(), small_model()
    sgd = config.optimizer.sgd
    sgd.momentum, sgd.global_clipnorm, sgd.weight_decay = 0.0, 0.5, 0.1
    before = [v.numpy() for v in model.trainable_variables]
    gradients = random_gradients(model, steps=1)
    _, norms = apply_all(config, model, gradients)
    norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients[0]))
    assert norms == [pytest.approx(norm, rel=1e-6)]
    assert norm > 0.5
    for old, new, g in zip(
        before, model.trainable_variables, gradients[0], strict=True
    ):
        decay = 0.0 if "bn" in new.path else 0.1
        expected = old - 0.1 * (g * 0.5 / norm + decay * old)
        np.testing.assert_allclose(new.numpy(), expected, rtol=0, atol=1e-6)


def test_a_small_gradient_is_not_clipped():
    config, model = stepwise(), small_model()
    config.optimizer.sgd.global_clipnorm = 1e6
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    gradients = random_gradients(model)
    apply_all(config, model, gradients)
    config.optimizer.sgd.global_clipnorm = None
    apply_all(config, other, gradients)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_float16_overflow_skips_the_step_and_halves_the_scale():
    config, model = stepwise(), small_model()
    before = model.get_weights()
    gradients = random_gradients(model, steps=1)
    gradients[0][0][0, 0] = np.inf
    optimizer, norms = apply_all(config, model, gradients, dtype="float16")
    assert not np.isfinite(norms[0])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(optimizer.dynamic_scale) == 2.0**14
    assert int(optimizer.iterations) == 0


def test_float16_update_equals_the_unscaled_one():
    config, model = stepwise(), small_model()
    config.optimizer.sgd.global_clipnorm = 0.5
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    gradients = random_gradients(model)
    scaled = [[g * 2.0**15 for g in step] for step in gradients]
    apply_all(config, model, gradients)
    apply_all(config, other, scaled, dtype="float16")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_adamw_decays_kernels_and_not_normalisation():
    config, model = stepwise(), small_model()
    config.optimizer.type = "adamw"
    config.optimizer.adamw.weight_decay = 0.5
    before = {v.path: v.numpy() for v in model.trainable_variables}
    zeros = [[np.zeros(v.shape, np.float32) for v in model.trainable_variables]]
    apply_all(config, model, zeros)
    for variable in model.trainable_variables:
        factor = 1.0 if "bn" in variable.path else 1 - 0.1 * 0.5
        np.testing.assert_allclose(
            variable.numpy(), before[variable.path] * factor, rtol=1e-6
        )


@pytest.mark.parametrize(("batch", "scale"), [(64, 1.0), (8, 1 / 8), (96, 1.5)])
def test_rates_follow_the_batch(batch, scale):
    config = stepwise()
    config.reference_batch_size = 64
    config.warmup.type = "linear"
    config.warmup.linear.warmup_steps = 10
    optimizer = optimization.build_optimizer(config, RuntimeConfig(), batch)
    optimizer.build([])
    own = schedules.build_learning_rate(config)
    for step in (0, 5, 10, 20):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(scale * float(own(step)))


def test_rates_without_a_reference_are_used_as_they_are():
    assert stepwise().rate_scale(3) == 1
    config = stepwise()
    config.reference_batch_size = -1
    with pytest.raises(UserError, match=r"reference_batch_size must be positive, or 0"):
        config.rate_scale(3)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_clipping_norm_that_is_not_positive_is_refused(name, norm):
    config = stepwise()
    config.optimizer.type = name
    config.optimizer.get().global_clipnorm = norm
    with pytest.raises(UserError, match=rf"optimizer\.{name}\.global_clipnorm must be"):
        optimization.build_optimizer(config, RuntimeConfig(), batch_size=8)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_a_loss_scale_that_is_not_positive_is_refused(scale):
    runtime = RuntimeConfig(mixed_precision_dtype="float16", loss_scale=scale)
    with pytest.raises(UserError, match=f"runtime.loss_scale .*Received: {scale}"):
        optimization.build_optimizer(stepwise(), runtime, batch_size=8)
