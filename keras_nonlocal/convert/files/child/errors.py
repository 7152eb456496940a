"""Errors of a file, and the budget of bytes that it may unpack to."""


class ReadError(Exception):
    """Completes "Cannot read 'file': ...", and says what to do."""


class Allowance:
    """Bytes that one file may unpack to: decompressed data, arrays, texts.

    Args:
        size: Bytes of the file.
        limit: Bytes.
    """

    def __init__(self, size, limit):
        self.size = size
        self.left = limit

    def charge(self, count, what):
        """Takes `count` bytes off; raises a `ReadError` if too few are left."""
        self.left -= count
        if self.left < 0:
            raise ReadError(
                f"it claims {what} of {count} bytes, more than a file of {self.size} "
                "bytes can honestly hold. It is damaged or made to exhaust memory."
            )


def missing(package, extra):
    return ReadError(
        f"the package {package!r}, which reads such files, is not installed: pip "
        f"install 'keras_nonlocal[{extra}]'."
    )
