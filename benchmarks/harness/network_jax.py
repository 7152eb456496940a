"""Ours on JAX: the forms of a network for inference, and a training step."""

import jax
import keras
import numpy as np
from jax import numpy as jnp

from harness.networks import Case, clips, labels, our_model
from harness.process import Made


def make(kind, key, case, weights):
    """A form of `networks.OURS`, with the weights of a file, or None."""
    case = Case(*case)
    if kind == "training":
        return _training(case, weights)
    call = FORMS[key](our_model(case, weights), case.dtype)
    clip = jnp.asarray(clips(case))
    return Made(
        {"inference": lambda: jax.block_until_ready(call(clip))},
        lambda: [np.asarray(call(clip), "float32")],
    )


def smallest(kind, key, case, weights):
    """Arguments of `make` for a tiny network."""
    return kind, key, Case(*case).smallest, None


def _plain(model, dtype):
    trainable, others = _values(model)

    @jax.jit
    def call(trainable, others, clips):
        return model.stateless_call(trainable, others, clips, training=False)[0]

    return lambda clips: call(trainable, others, clips)


def _folded(model, dtype):
    from keras_nonlocal import fold_batch_norm

    return _plain(fold_batch_norm(model, dtype), dtype)


def _constants(model, dtype):
    """The folded network with its weights as constants of the program."""
    from keras_nonlocal import fold_batch_norm

    folded = fold_batch_norm(model, dtype)
    return jax.jit(lambda clips: folded(clips, training=False))


FORMS = {"plain": _plain, "folded": _folded, "constants": _constants}


def _training(case, weights):
    """Forward, backward and the update, in one program that reuses its memory."""
    model = our_model(case, weights)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)
    variables = [*_values(model), [v.value for v in optimizer.variables]]
    update = jax.jit(_update(model, optimizer), donate_argnums=0)
    batch = jnp.asarray(clips(case)), jnp.asarray(labels(case))

    def run():
        nonlocal variables
        variables, *results = update(variables, *batch)
        return jax.block_until_ready(results)

    values = lambda: [np.atleast_1d(np.float32(x)) for x in run()]  # noqa: E731
    return Made({"training": run}, values)


def _update(model, optimizer):
    """(variables, clips, labels) -> (variables, loss, gradient norm)."""

    def loss_of(trainable, others, clips, labels):
        logits, others = model.stateless_call(trainable, others, clips, training=True)
        log_p = jax.nn.log_softmax(logits.astype("float32"))
        return -jnp.take_along_axis(log_p, labels[:, None], 1).mean(), others

    def update(variables, clips, labels):
        trainable, others, state = variables
        both = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = both(trainable, others, clips, labels)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients))
        gradients = [
            g + 1e-4 * w if w.ndim > 1 else g
            for g, w in zip(gradients, trainable, strict=True)
        ]
        trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        return [trainable, others, state], loss, norm

    return update


def _values(model):
    return (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
