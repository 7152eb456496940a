"""Gradients written by hand know no gradient of their own on PyTorch."""

from keras import backend


def refuse_second_order():
    """Raises where a backward pass is itself to be differentiated, on PyTorch.

    Its custom functions would take what the forward pass kept for constants, and
    give wrong numbers silently. TensorFlow differentiates them rightly.
    """
    if backend.backend() != "torch":
        return
    import torch

    if torch.is_grad_enabled():  # in a backward pass: create_graph=True
        raise NotImplementedError(
            "Second derivatives through algorithm='sorted' or 'chunked' do not exist "
            "on PyTorch. Use algorithm='dense' for gradients of gradients."
        )
