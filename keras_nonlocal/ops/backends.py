"""What depends on the backend: its kernels, and limits of gradients and exports."""

from keras import backend, ops


def backend_kernels():
    """A module of what the backend does faster than keras.ops, or None."""
    if backend.backend() != "tensorflow":
        return None
    from keras_nonlocal.ops import tensorflow_kernels

    return tensorflow_kernels


def detection_kernels():
    """A module of what detection takes from TensorFlow.

    Raises a `NotImplementedError` on other backends.
    """
    if backend.backend() != "tensorflow":
        raise NotImplementedError(
            "Proposals, suppression and detection run on TensorFlow, and the backend "
            f"of Keras is {backend.backend()!r}: set KERAS_BACKEND=tensorflow. "
            "Backbone, FPN and heads run on every backend."
        )
    from keras_nonlocal.ops import tensorflow_detection

    return tensorflow_detection


def descending_order(x):
    """The indices that sort each row of `x` `(B, n)`, the largest first.

    PyTorch cannot export argsort to ONNX, and TensorFlow cannot load the top_k of JAX.
    """
    if backend.backend() == "torch":
        return ops.top_k(x, ops.shape(x)[1])[1]
    return ops.argsort(-x, axis=1)


def refuse_second_order():
    """Raises where a backward pass is itself to be differentiated, on PyTorch.

    Its custom functions would treat what the forward pass kept as constants, and
    silently give wrong numbers. TensorFlow differentiates them correctly.
    """
    if backend.backend() != "torch":
        return
    import torch

    if torch.is_grad_enabled():  # in a backward pass: create_graph=True
        raise NotImplementedError(
            "Second derivatives through algorithm='sorted' or 'chunked' do not exist "
            "on PyTorch. Use algorithm='dense' for gradients of gradients."
        )
