"""Describes the machine, and tests which peers are installed."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform

THREADS = os.cpu_count()


def machine_line():
    """Device, threads and versions, in one line."""
    names = (os.environ.get("KERAS_BACKEND", "tensorflow"), "keras", "torch")
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in dict.fromkeys(names)
        if installed(name)
    ]
    device = f"{gpu()}, " if gpu() else ""
    return f"{device}{_cpu()}, {THREADS} threads, " + ", ".join(versions) + "."


def gpu():
    """Name of the GPU that PyTorch sees, or None."""
    if not installed("torch"):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def installed(name):
    """Whether the module `name` can be imported."""
    return importlib.util.find_spec(name) is not None


def use_all_threads(*frameworks):
    """Gives each of the frameworks the same number of threads."""
    if "torch" in frameworks:
        import torch

        torch.set_num_threads(THREADS)
    if "tensorflow" in frameworks:
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # retracing for new shapes is intended
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)


def available_bytes():
    """Free memory in bytes, or None where the system does not report it."""
    return _kib("/proc/meminfo", "MemAvailable")


def why_no_compile():
    """Why torch.compile cannot be measured here, or None if it can."""
    import torch

    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(2))
    except Exception as error:  # a missing C++ compiler, an unsupported Python
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


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
    return f"{lines.get('model name', platform.machine())} ({', '.join(units)})"


def _kib(path, key):
    path = pathlib.Path(path)
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    return None
