"""How much memory the reading of one file may take."""

from keras_nonlocal.convert.errors import CheckpointError

BASE = 256 * 2**20
PER_BYTE = 20
CHARACTER = 4  # bytes that one of a text takes at most
OBJECT = 256  # an upper bound of what one opcode of a pickle makes


class Budget:
    """What one file may unpack to: 256 MiB and 20 times its own size.

    Whatever takes memory that the file's own length does not already bound
    (decompressed bytes, arrays, objects) is charged before it is made.

    Args:
        file_size: Bytes of the file.

    Example:

    >>> budget = Budget(file_size=1000)
    >>> budget.charge(4 * 10**12, "an array")
    Traceback (most recent call last):
    ...
    keras_nonlocal.convert.errors.CheckpointError: it claims an array of \
4000000000000 bytes, which a file of 1000 bytes cannot honestly hold. It is \
damaged or made to exhaust memory.
    """

    def __init__(self, file_size):
        self.file_size = file_size
        self.left = BASE + PER_BYTE * file_size

    def charge(self, size, what="objects"):
        """Takes `size` bytes off; raises `CheckpointError` if they are not left."""
        self.left -= size
        if self.left < 0:
            raise CheckpointError(
                f"it claims {what} of {size} bytes, which a file of "
                f"{self.file_size} bytes cannot honestly hold. It is damaged or "
                "made to exhaust memory."
            )
