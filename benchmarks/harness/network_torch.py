"""The modes of the peer: memory layouts, torch.compile, freezing, autocast."""

import contextlib

import numpy as np
import torch

from harness import network_peer
from harness.networks import CLASSES, THEIRS, Case, clips, labels
from harness.process import THREADS, Made


def make(kind, key, case, place=None):
    """A form of `networks.THEIRS`, on the CPU or, if there is one, on a GPU.

    Values are the logits, or loss and gradient norm before the update.
    """
    torch.set_num_threads(THREADS)
    place = place or ("cuda" if torch.cuda.is_available() else "cpu")
    step = {"inference": _inference, "training": _training}[kind]
    return step(THEIRS[kind][key], Case(*case), place)


def smallest(kind, key, case, place=None):
    """Arguments of `make` for a tiny network."""
    return kind, key, Case(*case).smallest, place


def save_weights(case, path):
    """Writes the weights of all forms, by the names of PySlowFast."""
    state = network_peer.build(Case(*case), CLASSES).state_dict()
    np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})


def _inference(form, case, place):
    network, clip, _ = _prepare(form, case, place)
    network.eval()
    run = _compiled(network, form)

    def step():
        with torch.inference_mode():
            logits = run(clip)
        _wait(logits)
        return logits

    return Made({"inference": step}, lambda: [step().float().cpu().numpy()])


def _training(form, case, place):
    network, clip, targets = _prepare(form, case, place)
    network.train()
    if case.recompute:
        network_peer.recompute(network)
    run = _compiled(network, form)
    optimizer = torch.optim.SGD(_decayed(network), lr=1e-3, momentum=0.9, nesterov=True)
    context = contextlib.nullcontext
    if form.autocast and case.dtype != "float32":
        context = lambda: torch.autocast(clip.device.type, _dtype(case))  # noqa: E731

    def step():
        optimizer.zero_grad(set_to_none=True)
        with context():
            logits = run(clip)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        optimizer.step()
        _wait(loss)
        return loss.detach()

    def values():
        loss = step()
        norms = [p.grad.float().norm() for p in network.parameters()]
        results = loss, torch.stack(norms).norm()
        return [np.atleast_1d(x.cpu().numpy()) for x in results]

    return Made({"training": step}, values)


def _prepare(form, case, place):
    dtype = torch.float32 if form.autocast else _dtype(case)
    network = network_peer.build(case, CLASSES)
    network = network.to(place, dtype, memory_format=_layout(form))
    clip = torch.from_numpy(np.moveaxis(clips(case), -1, 1).copy())
    clip = clip.to(place, dtype, memory_format=_layout(form))
    return network, clip, torch.from_numpy(labels(case)).long().to(place)


def _layout(form):
    return torch.channels_last_3d if form.channels_last else torch.contiguous_format


def _compiled(network, form):
    if form.compile is None:
        return network
    return torch.compile(network, dynamic=False, options=form.compile)


def _decayed(network):
    """Weight decay on kernels, none on normalisation."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim < 2]
    return [{"params": kernels, "weight_decay": 1e-4}, {"params": others}]


def _dtype(case):
    return getattr(torch, case.dtype)


def _wait(tensor):
    if tensor.is_cuda:
        torch.cuda.synchronize()
