"""Describes the machine, and measures how much of it others use."""

import contextlib
import pathlib
import platform
import shutil
import subprocess
import time

import psutil

from harness.process import THREADS

MUCH = 0.3  # of a core: above it, times are not to be trusted


def description():
    """The processors that the figures hold for, in one line."""
    cores = f"{THREADS} cores of {_cpu()}"
    return f"{_gpu()}, {cores}" if _gpu() else cores


def device():
    """`"gpu"` or `"cpu"`."""
    return "gpu" if _gpu() else "cpu"


def available_bytes():
    """Memory that is free to use."""
    return psutil.virtual_memory().available


def pairs_fit(shape, dtype):
    """Whether the pairs of the published concatenation, repeated and joined, and
    their gradients fit into memory; `shape` is an `OpShape`."""
    pairs = 2 * shape.channels * shape.queries * shape.keys
    return 5 * pairs * {"float32": 4, "bfloat16": 2}[dtype] < available_bytes()


class Load:
    """What others have used of the cores since this was built.

    Others are all but this process and its children; what the host of a virtual
    machine withholds counts as used.
    """

    def __init__(self):
        self._start = _cpu_seconds()

    def per_core(self):
        """Between 0, an idle machine, and 1."""
        seconds, busy, ours = (
            now - start for start, now in zip(self._start, _cpu_seconds(), strict=True)
        )
        return max(busy - ours, 0.0) / max(seconds, 1e-3) / THREADS


def _cpu_seconds():
    """(elapsed, CPU time of all programs, CPU time of this one and its children)."""
    total, me = psutil.cpu_times(), psutil.Process()
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    busy = sum(getattr(total, field, 0.0) for field in fields)
    ours = sum(me.cpu_times()[:4])  # with that of children that have ended
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            ours += sum(child.cpu_times()[:4])
    return time.monotonic(), busy, ours


def _gpu():
    """Name of the first GPU of NVIDIA's driver, or None."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return done.stdout.splitlines()[0] if done.stdout else None


def _cpu():
    cores = pathlib.Path("/proc/cpuinfo")
    if not cores.exists():
        return platform.processor() or platform.machine()
    lines = dict(
        (part.strip() for part in line.split(":", 1))
        for line in cores.read_text().splitlines()
        if ":" in line
    )
    flags = lines.get("flags", "").split()
    units = [u for u in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if u in flags]
    units += ["virtual"] if "hypervisor" in flags else []
    return f"{lines.get('model name', platform.machine())} ({', '.join(units)})"
