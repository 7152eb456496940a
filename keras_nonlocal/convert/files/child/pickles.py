"""Pickles that run no code: each name in them stands for something of this package.

Python's own machine reads them. What it asks for by name comes from a table of inert
stand-ins, whose results `tree` turns into arrays, texts and numbers.
"""

import pickle

from .errors import ReadError

MAX_ARGUMENTS = 100


class Unpickler(pickle.Unpickler):
    """Reads one pickle.

    Args:
        file: Binary file, at the start of the pickle.
        names: `{"module.name": stand-in}`: a function, a class or None, which may be
            named but not called.
        find_storage: `persistent id -> value`, for the storages of torch.
    """

    def __init__(self, file, names, find_storage=None):
        super().__init__(file, encoding="latin1")  # keeps the bytes of Python 2's str
        self.names = names
        self.find_storage = find_storage

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if full_name not in self.names:
            raise ReadError(
                f"it is refused, because its pickle asks for {full_name[:200]!r}: "
                "code, not weights. Nothing of it was run. If you trust the file, load "
                "it with the program that wrote it and save the weights alone "
                "(`torch.save(model.state_dict(), path)`, or a dict of NumPy arrays)."
            )
        found = self.names[full_name]
        if found is Record:
            return type(full_name, (Record,), {})
        return found if found is Text else Function(full_name, found)

    def persistent_load(self, identity):
        if self.find_storage is None:
            raise ReadError(
                "its pickle refers to data kept elsewhere (a persistent id), which a "
                "plain pickle does not have."
            )
        return self.find_storage(identity)

    def load(self):
        try:
            return super().load()
        except (EOFError, pickle.UnpicklingError, ValueError) as error:
            what = "truncated" if "truncated" in str(error) else "damaged"
            what = "truncated" if isinstance(error, EOFError) else what
            raise ReadError(
                f"its pickle is {what} ({str(error)[:200]}). Download it again."
            ) from error


class Function:
    """Stands for a function, or for a class that is not pickled by its state."""

    __slots__ = ("call", "name")

    def __init__(self, name, call=None):
        self.name = name
        self.call = call

    def __call__(self, *arguments):
        if self.call is None:
            raise ReadError(f"its pickle wants to call {self.name!r}: refused.")
        if len(arguments) > MAX_ARGUMENTS:
            raise ReadError(f"its pickle calls {self.name!r} with too many arguments.")
        return self.call(*arguments)

    def __setstate__(self, state):
        raise ReadError(f"its pickle wants to change {self.name!r}: refused.")

    def resolve(self, allowance):
        return self.name


class Items(dict):
    """`dict`, `OrderedDict` and `Counter`, of a dict or of pairs."""

    def __setstate__(self, state):
        """Attributes, such as `_metadata` of torch's state dicts: not needed."""


class Record(dict):
    """An object of a harmless class as a dict of its attributes."""

    def __new__(cls, *parts):
        record = super().__new__(cls)
        record.__setstate__(parts)
        return record

    def __init__(self, *parts):
        pass

    def __setstate__(self, state):
        parts = state if isinstance(state, tuple) else (state,)
        if len(parts) > MAX_ARGUMENTS:
            raise ReadError("its pickle has a state of too many parts.")
        for part in parts:
            self.update(part if isinstance(part, dict) else {})


class Text(str):
    """`TorchVersion`, a str with methods."""

    def __new__(cls, text=""):
        return super().__new__(cls, text if isinstance(text, str) else "")


def encode(text, encoding="latin1"):
    """`_codecs.encode`: how protocols 0-2 of Python 3 write bytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise ReadError("its pickle encodes a text other than as bytes.")
    return text.encode("latin-1")


def make_bytes(content=b"", encoding="latin1"):
    return content if isinstance(content, bytes) else encode(content, encoding)


def make_path(*parts):
    return "/".join(part for part in parts if isinstance(part, str))


def reconstruct(kind, base=None, state=None):
    """`copyreg._reconstructor`: how protocols 0 and 1 make an object."""
    if not is_record(kind):
        name = kind.name if isinstance(kind, Function) else type(kind).__name__
        raise ReadError(f"its pickle wants to make {name!r}: refused.")
    return kind(state)


def name_of_method(owner, name):
    """`getattr(class, "method")`: mmengine's history names its statistics so."""
    if not (is_record(owner) and isinstance(name, str)):
        raise ReadError("its pickle asks for `getattr`: refused.")
    return f"{owner.__name__}.{name}"


def is_record(kind):
    return isinstance(kind, type) and issubclass(kind, Record)


BUILTINS = {
    "bytes": make_bytes,
    "bytearray": make_bytes,
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": Items,
    "int": None,
    "float": None,
    "object": None,
    "getattr": name_of_method,
}
# Settings and logs that real checkpoints carry beside the weights.
RECORDS = (
    "addict.addict.Dict",
    "argparse.Namespace",
    "fvcore.common.config.CfgNode",
    "iopath.common.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "types.SimpleNamespace",
    "yacs.config.CfgNode",
)
NAMES = {
    **{f"builtins.{name}": call for name, call in BUILTINS.items()},
    **{f"__builtin__.{name}": call for name, call in BUILTINS.items()},  # Python 2
    **dict.fromkeys(RECORDS, Record),
    "copyreg._reconstructor": reconstruct,
    "copy_reg._reconstructor": reconstruct,
    "_codecs.encode": encode,
    "collections.OrderedDict": Items,
    "collections.Counter": Items,
    "collections.defaultdict": lambda factory=None, items=(): Items(items),
    **{
        f"{module}.{name}": make_path
        for module in ("pathlib", "pathlib._local")  # Python 3.13
        for name in ("PosixPath", "WindowsPath")
    },
}
