"""Runtimes other than TensorFlow that an exported network runs in.

Keras is imported to write networks, not to run them.
"""

import dataclasses
import importlib
import os
import sys
import warnings
from collections.abc import Callable

from trainers.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How a network is written for a runtime, and run there.

    Attributes:
        title: Its name.
        extra: Of this project, which installs `modules`.
        modules: That it needs.
        file: Name of the network, which is written last.
        precisions: That it has.
        batch: Clips of a call, where their size is fixed; None: any number.
        slow: Algorithms that take minutes to convert, and run slower than all pairs.
        load: Function of a path and a precision that gives a function from clips,
            float32 `(batch, T, H, W, 3)`, to the network's output.
        usage: Python that loads the file and calls it with `clips`.
    """

    title: str
    extra: str
    modules: tuple[str, ...]
    file: str
    precisions: tuple[str, ...]
    batch: int | None
    slow: tuple[str, ...]
    load: Callable
    usage: str

    def check_installed(self):
        """Raises `UserError` unless its modules can be imported."""
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UserError(
                    f"An export for {self.title} needs {module} ({error}): "
                    f"pip install -e '.[{self.extra}]'"
                ) from error


def write(runtime: str, network, folder: str, clip_shape) -> str:
    """Writes a Keras network; returns its path.

    With clips of one size, the non-local blocks have the form that is the fastest for
    it; with clips of any size, the one whose memory is safe at any. Instead of a form
    that is slow in the runtime they have the map of all pairs, and stderr says so.

    Args:
        runtime: Key of `RUNTIMES`.
        network: Keras model from clips to one output, in float32.
        folder: Where to write.
        clip_shape: `(T, H, W, 3)`; T, H and W may be None: any.
    """
    import keras

    about = RUNTIMES[runtime]
    path = os.path.join(folder, about.file)
    batch = None if None in clip_shape else about.batch
    spec = keras.InputSpec(shape=(batch, *clip_shape), dtype="float32", name="clips")
    options = {"input_signature": [spec], "verbose": False}
    network = _without_slow_forms(network, clip_shape, about)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"In the future `np\.object`", FutureWarning)
        network.export(path, format=runtime, **options)
    return path


def _without_slow_forms(network, clip_shape, about):
    """`network` or, where it has forms that are slow there, a copy without them."""
    import keras

    from keras_nonlocal.layers import NonLocal3D

    def is_slow(block):
        before = keras.Model(network.input, block.input)
        shape = before.compute_output_shape((1, *clip_shape))
        return block.contraction_order_for(shape).algorithm in about.slow

    def clone(layer):
        dense = {"algorithm": "dense"} if layer.name in names else {}
        return type(layer).from_config(layer.get_config() | dense)

    blocks = [layer for layer in network.layers if isinstance(layer, NonLocal3D)]
    names = [block.name for block in blocks if is_slow(block)]
    if not names:
        return network
    print(
        f"{', '.join(names)}: exported with the map of all pairs (algorithm=dense). "
        f"{about.title} converts {' and '.join(about.slow)} in minutes, and runs it "
        "more slowly. Memory grows with the product of queries and keys.",
        file=sys.stderr,
    )
    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


def _load_openvino(path, precision):
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
    network = openvino.Core().compile_model(path, "CPU", hint)
    return lambda clips: network([clips])[0]


def _load_onnx(path, precision):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda clips: session.run(None, {name: clips})[0]


def _load_litert(path, precision):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=os.cpu_count())
    [given], [output] = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    sizes = []  # of the last clips

    def run(clips):
        if sizes != [clips.shape]:
            interpreter.resize_tensor_input(given["index"], clips.shape)
            interpreter.allocate_tensors()
            sizes[:] = [clips.shape]
        interpreter.set_tensor(given["index"], clips)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return run


def quantize_openvino(source: str, target: str, clips) -> None:
    """Writes a network in int8, by NNCF.

    Args:
        source: `.xml` in float32.
        target: `.xml` to write.
        clips: Sequence of float32 `(1, T, H, W, 3)`, to calibrate with.
    """
    import nncf
    import openvino

    network = openvino.Core().read_model(source)
    dataset = nncf.Dataset(list(clips))
    network = nncf.quantize(network, dataset, subset_size=len(clips))
    openvino.save_model(network, target, compress_to_fp16=False)


RUNTIMES = {
    "openvino": Runtime(
        "OpenVINO",
        "openvino",
        ("openvino", "nncf"),
        "network.xml",
        ("float32", "bfloat16", "int8"),
        None,
        ("chunked",),
        _load_openvino,
        """\
import openvino
options = {{"INFERENCE_PRECISION_HINT": "{hint}"}}
network = openvino.Core().compile_model("network.xml", "CPU", options)
{output} = network([clips])[0]""",
    ),
    "onnx": Runtime(
        "ONNX Runtime",
        "onnx",
        ("onnx", "tf2onnx", "onnxruntime"),
        "network.onnx",
        ("float32",),
        None,
        (),
        _load_onnx,
        """\
import onnxruntime
session = onnxruntime.InferenceSession("network.onnx")
({output},) = session.run(None, {{session.get_inputs()[0].name: clips}})""",
    ),
    "litert": Runtime(
        "LiteRT",
        "litert",
        ("ai_edge_litert",),
        "network.tflite",
        ("float32",),
        1,
        (),
        _load_litert,
        """\
import os
from ai_edge_litert.interpreter import Interpreter
network = Interpreter("network.tflite", num_threads=os.cpu_count())
index = network.get_input_details()[0]["index"]
network.resize_tensor_input(index, clips.shape)
network.allocate_tensors()
network.set_tensor(index, clips)
network.invoke()
{output} = network.get_tensor(network.get_output_details()[0]["index"])""",
    ),
}
