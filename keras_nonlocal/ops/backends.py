"""What depends on the backend: its own kernels, and the limits of its gradients."""

from keras import backend


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
