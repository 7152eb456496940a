"""`.keras` files of converted networks: complete or not there, with their metadata."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Mapping

import keras

from keras_nonlocal.convert.errors import CONVERTING, CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.preprocessing import Pixels


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class ConvertedModel(keras.Model):
    """A functional model with `metadata`, which Keras saves and loads with it.

    Attributes:
        metadata: Dict, for JSON: `"source"`, `"file"`, `"architecture"`,
            `"class_names"` and `"preprocessing"` as `convert_file` gives them.
    """

    metadata = None

    def get_config(self):
        return {**super().get_config(), "metadata": self.metadata}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        metadata = config.get("metadata")
        config = {name: x for name, x in config.items() if name != "metadata"}
        model = super().from_config(config, custom_objects)
        model.metadata = metadata
        return model


def write_keras_file(model, path, metadata, overwrite=False, check=None):
    """Saves a model with metadata; the file is there complete or not at all.

    Args:
        model: Functional `keras.Model`.
        path: The file, `*.keras`.
        metadata: Dict, for JSON.
        overwrite: Replace what is there.
        check: Called with the path of the file before it gets its name; what it
            raises leaves nothing behind.

    Returns:
        The `ConvertedModel` that was saved: the same layers.

    Raises:
        CheckpointError: It cannot be written; the message says why.

    Example:
    >>> model = write_keras_file(C2D(14, 2, width=8), "b.keras", {"source": "me"})
    >>> read_metadata("b.keras")
    {'source': 'me'}
    """
    path = pathlib.Path(path)
    check_destination(path, overwrite)
    converted = ConvertedModel(model.input, model.output, name=model.name)
    converted.metadata = metadata
    with _scratch(path) as folder:
        saved = folder / "saved.keras"
        with _explained(path):
            converted.save(saved)
        if check is not None:
            check(saved)
        check_destination(path, overwrite)  # some time has gone by
        with _explained(path), open(saved, "rb+") as file:
            os.fsync(file.fileno())
        with _explained(path):
            os.replace(saved, path)
    return converted


def check_destination(path, overwrite=False):
    """Raises a `CheckpointError` if a `.keras` file cannot be written to `path`."""
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise _cannot_write(path, "its name is not *.keras")
    if path.is_dir():
        raise _cannot_write(path, "it is a folder")
    if path.exists() and not overwrite:
        raise _cannot_write(path, "it exists", {"overwrite": True})
    with _scratch(path):
        pass


@contextlib.contextmanager
def _scratch(path):
    """A folder beside `path`, so that a rename is all that remains."""
    with _explained(path):
        folder = tempfile.TemporaryDirectory(
            prefix=f".{path.stem}-", dir=path.parent, ignore_cleanup_errors=True
        )
    with folder as name:
        yield pathlib.Path(name)


@contextlib.contextmanager
def _explained(path):
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from error


def _cannot_write(path, reason, fix=()):
    message = f"Cannot write {str(path)!r}: {reason}."
    return CheckpointError(message, fix=fix, spelling=CONVERTING)


# === Metadata of saved models ===


def read_metadata(path):
    """The metadata of a converted network, from a `.keras` file of any saving.

    Args:
        path: What `convert_file` wrote, or what `model.save` did after
            `keras.models.load_model` and training.

    Returns:
        Dict: see `ConvertedModel`; `{}` for other models.

    Raises:
        CheckpointError: Not a `.keras` file, or damaged.
    """
    content = read_checkpoint(path).content
    if not isinstance(content, Mapping) or not {"model", "config"} <= content.keys():
        raise CheckpointError(f"Cannot read {str(path)!r}: not a .keras file.")
    return model_config(content["config"]).get("metadata") or {}


def saved_metadata(config, conventions):
    """`(convention, pixels, class_names)` of a converted network, each None if unknown.

    By the `config.json` of a `.keras` file, which may hold anything.
    """
    metadata = model_config(config).get("metadata")
    if not metadata:
        return None, None, None
    try:
        clips, names = metadata["preprocessing"], metadata.get("class_names")
        convention = metadata["architecture"].get("convention")
        if convention is not None and convention not in conventions:
            raise ValueError(f"convention={convention!r}")
        texts = isinstance(names, list) and all(isinstance(x, str) for x in names)
        if names and not texts:
            raise ValueError(f"class_names={names!r}")
        return convention, Pixels(clips["color"], clips["mean"], clips["std"]), names
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Its metadata is damaged ({error!r}). Expected what "
            "keras_nonlocal.convert writes."
        ) from error


def model_config(config):
    """The model's part of a `.keras` file's `config.json`, which may hold anything."""
    inner = config.get("config") if isinstance(config, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}
