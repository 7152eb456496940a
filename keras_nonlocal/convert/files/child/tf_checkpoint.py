"""`tf.train` checkpoints, read by TensorFlow."""

import os
import re

import numpy as np

from .errors import ReadError
from .tree import NUMBERS

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def read_tf_checkpoint(tensorflow, prefix):
    """`{path of the variable: array}`, such as `{"model/conv1/kernel": ...}`."""
    try:
        # TensorFlow takes a path for a pattern: the folder's name may look like one.
        reader = tensorflow.train.load_checkpoint(os.path.basename(prefix))
        dtypes = reader.get_variable_to_dtype_map()
    except Exception as error:  # of many types, RuntimeError and IndexError too
        raise ReadError(
            f"its index is damaged or truncated ({reason(error)}). Use another one."
        ) from error
    return {
        variable_path(key): read_tensor(reader, key)
        for key in sorted(dtypes)
        if dtypes[key].name in NUMBERS  # no texts: the graph of objects
    }


def variable_path(key):
    """`model/conv1/kernel` of `model/conv1.Skernel/.ATTRIBUTES/VARIABLE_VALUE`."""
    return key.removesuffix(VALUE).replace(".S", "/").replace("..", ".")


def read_tensor(reader, key):
    try:
        return np.asarray(reader.get_tensor(key))  # scalars come as numbers
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


def reason(error):
    return str(error).partition("\n")[0][:300]
