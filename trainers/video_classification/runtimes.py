"""Runtimes other than TensorFlow that an exported network runs in."""

import dataclasses
import importlib
import os
from collections.abc import Callable

import keras

from keras_nonlocal.layers import NonLocal3D
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
        batch: Clips of a call; None: any number.
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
    """Writes a Keras network for clips of one shape; returns its path.

    Shapes are static, but for the batch: then the non-local blocks have the form that
    is the fastest for them, not the one for maps of any size.

    Args:
        runtime: Key of `RUNTIMES`.
        network: Keras model from clips to one output, in float32.
        folder: Where to write.
        clip_shape: `(T, H, W, 3)`.
    """
    path = os.path.join(folder, RUNTIMES[runtime].file)
    shape = (RUNTIMES[runtime].batch, *clip_shape)
    spec = keras.InputSpec(shape=shape, dtype="float32", name="clips")
    options = {"input_signature": [spec], "verbose": False}
    if runtime == "litert":
        network = _without_sorting(network)
    network.export(path, format=runtime, **options)
    return path


def _without_sorting(network):
    """A copy for LiteRT, whose concatenation is not sorted: the map of all pairs."""

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, NonLocal3D) and layer.mode == "concatenation":
            config["algorithm"] = "dense"
        return type(layer).from_config(config)

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

    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(clips):
        interpreter.set_tensor(inputs[0]["index"], clips)
        interpreter.invoke()
        return interpreter.get_tensor(outputs[0]["index"])

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
        _load_litert,
        """\
from ai_edge_litert.interpreter import Interpreter
network = Interpreter("network.tflite")
network.allocate_tensors()
network.set_tensor(network.get_input_details()[0]["index"], clips)
network.invoke()
{output} = network.get_tensor(network.get_output_details()[0]["index"])""",
    ),
}
