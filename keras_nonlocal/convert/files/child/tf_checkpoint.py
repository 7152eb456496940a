"""`tf.train` checkpoints, read by TensorFlow."""

import math
import os
import re

import numpy as np

from .arrays import BFLOAT16, NUMBERS, item_size
from .errors import ReadError, missing

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def import_tensorflow():
    """Takes some seconds: done where it is certain that TensorFlow is needed."""
    try:
        import tensorflow
    except ImportError as error:
        raise missing("tensorflow", "tensorflow") from error
    return tensorflow


def read_tf_checkpoint(tf, prefix, allowance):
    """`{path of the variable: array}`, such as `{"model/conv1/kernel": ...}`."""
    try:
        # TensorFlow takes a path for a pattern: the folder's name may look like one.
        reader = tf.train.load_checkpoint(os.path.basename(prefix))
        dtypes = reader.get_variable_to_dtype_map()
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # of many types, RuntimeError and IndexError too
        raise ReadError(
            f"its index is damaged or truncated ({reason(error)}). Use another "
            "checkpoint."
        ) from error
    content = {}
    for key in sorted(shapes):
        if dtypes[key].name in (*NUMBERS, BFLOAT16):  # no texts: the graph of objects
            size = math.prod(shapes[key]) * item_size(dtypes[key].name)
            allowance.charge(size, "an array")
            content[variable_path(key)] = read_tensor(reader, key)
    return content


def variable_path(key):
    """The name of a variable without what TensorFlow adds to it.

    Example:

    >>> variable_path("model/conv1.Skernel/.ATTRIBUTES/VARIABLE_VALUE")
    'model/conv1/kernel'
    """
    return key.removesuffix(VALUE).replace(".S", "/").replace("..", ".")


def read_tensor(reader, key):
    try:
        array = np.asarray(reader.get_tensor(key))  # scalars come as numbers
    except Exception as error:
        file = re.search(r"[^/\s]+\.data-\d+-of-\d+(?=.*No such file)", str(error))
        if file:
            raise ReadError(
                f"its numbers are missing: there is no {file[0]!r} beside it."
            ) from error
        raise ReadError(
            f"the data of this checkpoint is damaged or cut short: "
            f"{variable_path(key)!r} cannot be read ({reason(error)}). Use another one."
        ) from error
    return array.astype(np.float32) if array.dtype.name == BFLOAT16 else array


def reason(error):
    return str(error).partition("\n")[0][:300]
