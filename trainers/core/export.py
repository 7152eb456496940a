"""Folders of exported networks, as TF Serving watches them.

One numbered version per export, the highest being served:

    export_dir/1/saved_model.pb, variables/
    export_dir/1/assets/                       text files for clients
    export_dir/1/assets.extra/export.json      its precision, and how exact it is
    export_dir/1/assets.extra/                 warm-up requests, if possible

A version appears complete or not at all: it is written under a name that TF
Serving ignores, compared with the Keras model, and only then renamed. Object stores
cannot rename folders: there, `saved_model.pb` is the file that is written last.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import tensorflow as tf
from absl import logging

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.lock import in_turn

_MAX_SECONDS = 24 * 3600  # that an export may take where folders cannot be locked


class ExportError(UserError):
    """The exported network and the Keras model disagree."""


@contextlib.contextmanager
def next_version(export_dir) -> Iterator[tuple[str, str]]:
    """Context: `(folder, version)`, a folder to write to, and what it is renamed to.

    After an error nothing new is left in `export_dir`.

    Args:
        export_dir: Folder of versions, local or on a file system of TensorFlow's;
            created if it does not exist.

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
        with files.creating_folder(version, last="saved_model.pb") as folder:
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


def write_extra(folder: str, report: Mapping, inputs: Mapping):
    """Writes the files beside the network: the report and a warm-up request.

    Args:
        folder: Of the version.
        report: What `export.json` has.
        inputs: Example of the inputs of `serving_default`, by name.
    """
    extra = pathlib.Path(folder, "assets.extra")
    extra.mkdir()
    text = files.to_json(report) + "\n"
    (extra / "export.json").write_text(text, encoding="utf-8")
    _write_warmup(inputs, extra)


def _write_warmup(inputs: Mapping, extra: pathlib.Path):
    """Writes a request that TF Serving replays on loading, so that no client waits."""
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        logging.info(
            "No warm-up requests written: they need `pip install "
            "-e '.[serving]'`. The first request after loading will be slow."
        )
        return
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    path = extra / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
