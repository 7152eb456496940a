"""Folders of exported networks, as TF Serving watches them.

One numbered version per export, the highest being served:

    export_dir/1/saved_model.pb, variables/
    export_dir/1/assets/                       text files for clients
    export_dir/1/assets.extra/export.json      its precision, and how exact it is
    export_dir/1/assets.extra/tf_serving_warmup_requests

A version appears complete or not at all: it is written under a name that TF
Serving ignores, compared with the Keras model, answers its warm-up requests, and only
then is renamed. Object stores
cannot rename folders: there, `saved_model.pb` is the file that is written last.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.lock import in_turn

_MAX_SECONDS = 24 * 3600  # that an export may take where folders cannot be locked
_EXTRA = "assets.extra"
_WARMUP = "tf_serving_warmup_requests"  # as TF Serving calls it


class ExportError(UserError):
    """The exported network and the Keras model disagree."""


@contextlib.contextmanager
def next_version(export_dir, last: str = "saved_model.pb") -> Iterator[tuple[str, str]]:
    """Context: `(folder, version)`, a folder to write to, and what it is renamed to.

    After an error nothing new is left in `export_dir`.

    Args:
        export_dir: Folder of versions, local or on a file system of TensorFlow's;
            created if it does not exist.
        last: The file in a version that is written last.

    Raises:
        UserError: It is a file.
        FileError: It cannot be written to.
    """
    export_dir = os.fspath(export_dir)
    if files.is_file(export_dir):
        raise UserError(f"{export_dir} is a file: --export_dir must be a folder.")
    files.make_folder(export_dir)
    with in_turn(export_dir) as is_alone:
        _remove_leftovers(export_dir, is_alone)
        version = files.join(export_dir, str(_next_number(export_dir)))
        with files.creating_folder(version, last) as folder:
            yield folder, version


def _remove_leftovers(export_dir, is_alone):
    """Removes what killed exports left; without a lock, others may be running."""
    files.remove_parts(export_dir, unused_for=0 if is_alone else _MAX_SECONDS)
    for name in files.listdir(export_dir):
        if is_alone and name.startswith(".export-"):  # of former versions
            files.remove_folder(files.join(export_dir, name))


def _next_number(export_dir):
    names = files.listdir(export_dir)
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def save(module, signatures: Mapping, texts: Mapping[str, str], folder: str):
    """Writes a module as a SavedModel, with text files in its `assets`.

    Args:
        module: `tf.Module`, which gets an attribute `assets`.
        signatures: Functions of it by name.
        texts: Contents by file name.
        folder: Exists.
    """
    sources = pathlib.Path(folder, "sources")  # of the copies in assets
    sources.mkdir()
    for name, text in texts.items():
        (sources / name).write_text(text, encoding="utf-8")
    module.assets = [tf.saved_model.Asset(str(sources / name)) for name in texts]
    tf.saved_model.save(module, folder, signatures=dict(signatures))
    shutil.rmtree(sources)


def class_text(names) -> str:
    """The content of `classes.txt`: one class name per line."""
    return "".join(f"{name}\n" for name in names)


def write_report(folder: str, report: Mapping):
    """Writes `export.json`: how exact the network is, and its limits."""
    files.write_json(files.join(folder, _EXTRA, "export.json"), report)


def write_warmup(folder: str, requests: Mapping[str, Mapping]):
    """Writes requests that TF Serving replays on loading, so that no client waits.

    Args:
        folder: Of the version.
        requests: Inputs by name, by signature.

    Raises:
        UserError: A package for TF Serving's messages is not installed.
    """
    messages = _messages()
    files.make_folder(files.join(folder, _EXTRA))
    with tf.io.TFRecordWriter(files.join(folder, _EXTRA, _WARMUP)) as writer:
        for signature, inputs in requests.items():
            log = messages.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def replay_warmup(folder: str, network):
    """Sends the warm-up requests to the loaded network, as TF Serving will.

    Raises:
        ExportError: It fails at one, or answers with numbers that are not finite.
    """
    path = files.join(folder, _EXTRA, _WARMUP)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = _messages().PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(x) for key, x in request.inputs.items()}
        inputs = {key: tf.constant(x) for key, x in inputs.items()}
        try:
            outputs = network.signatures[name](**inputs)
        except tf.errors.OpError as error:
            raise ExportError(
                f"The exported network fails at the warm-up request for `{name}` "
                f"({files.reason(error)}). Nothing was exported."
            ) from error
        values = [x.numpy() for x in outputs.values() if x.dtype.is_floating]
        if not all(np.isfinite(value).all() for value in values):
            raise ExportError(
                f"Signature `{name}` answers its warm-up request with numbers that "
                "are not finite. Nothing was exported."
            )


def _messages():
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise UserError(
            "Warm-up requests of an export need tensorflow-serving-api "
            f"({error}): pip install -e '.[serving]'"
        ) from error
    return prediction_log_pb2
