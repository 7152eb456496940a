"""One folded network in TensorFlow and in the runtimes that it is exported to."""

import functools
import importlib
import os
import tempfile
import time

import numpy as np

from harness.networks import Case, clips, our_model
from harness.process import Made, status_mib

CALIBRATION_CLIPS = 4
MODULES = {
    "openvino": "openvino",
    "onnx": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
}


def write(runtime, case, folder):
    """Writes the network, and that of a tiny case.

    Args:
        runtime: Key of `MODULES`, or a form of `network_tensorflow`.
        case: `networks.Case`, with the precision as its dtype.
        folder: Where to write.
    """
    case = Case(*case)
    for one, path in ((case, folder), (case.smallest, f"{folder}/smallest")):
        os.makedirs(path, exist_ok=True)
        _write(runtime, one, path)


def make(runtime, case, folder):
    """The subject, in a process that has not written the network."""
    case = Case(*case)
    if runtime not in MODULES:
        from harness import network_tensorflow

        return network_tensorflow.make("inference", runtime, case, folder)
    from trainers.video_classification import runtimes

    about = runtimes.RUNTIMES[runtime]
    path = os.path.join(folder, about.file)
    call = functools.partial(about.load(path, case.dtype), clips(case))
    return Made({"inference": call}, lambda: [call()])


def smallest(runtime, case, folder):
    """Arguments of `make` for a tiny network."""
    return runtime, Case(*case).smallest, f"{folder}/smallest"


def load(runtime, case, folder):
    """Seconds of the start; MiB after the import, and after the second call."""
    begin = time.perf_counter()
    importlib.import_module(MODULES.get(runtime, "tensorflow"))
    imported, libraries = time.perf_counter(), status_mib("VmRSS")
    call = make(runtime, case, folder).steps["inference"]
    loaded = time.perf_counter()
    call()
    answered = time.perf_counter()
    call()
    return {
        "import s": imported - begin,
        "load s": loaded - imported,
        "first call s": answered - loaded,
        "libraries MiB": libraries,
        "resident MiB": status_mib("VmRSS"),
    }


def _write(runtime, case, folder):
    import keras

    keras.utils.set_random_seed(0)  # the same weights in every process
    model = _drawn(our_model(case._replace(dtype="float32")))
    if runtime not in MODULES:
        from harness import network_tensorflow

        network_tensorflow.save(runtime, model, case, folder)
        return
    from keras_nonlocal import fold_batch_norm
    from trainers.video_classification import runtimes

    network = fold_batch_norm(model, "float32")
    one = clips(case)
    network(one, training=False)
    if case.dtype != "int8":
        runtimes.write(runtime, network, folder, one.shape[1:])
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = runtimes.write(runtime, network, scratch, one.shape[1:])
        rng = np.random.default_rng(0)
        several = [
            np.float32(one + rng.normal(scale=0.1, size=one.shape))
            for _ in range(CALIBRATION_CLIPS)
        ]
        target = os.path.join(folder, runtimes.RUNTIMES[runtime].file)
        runtimes.quantize_openvino(path, target, several)


def _drawn(model):
    """With blocks that are no identities: a compiler may skip zeros."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith("norm/gamma"):
            variable.assign(rng.uniform(0.2, 0.4, variable.shape))
    return model
