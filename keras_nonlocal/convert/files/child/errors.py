"""Errors of a file, and of a package that is missing to read it."""

import importlib


class ReadError(Exception):
    """Completes "Cannot read 'file': ...", and says what to do."""


def require(package, extra):
    """The package that reads a format."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ReadError(
            f"the package {package!r}, which reads such files, is not installed: pip "
            f"install 'keras_nonlocal[{extra}]'."
        ) from error
