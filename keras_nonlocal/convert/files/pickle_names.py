"""The only classes and functions that a checkpoint's pickle may name.

Each maps to a function of ours, `(budget, *arguments) -> value`; None marks names
that may appear but not be called. Nothing is imported by name, so what is not in
these tables cannot be reached however the pickle spells it.
"""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import numpy_pickles
from keras_nonlocal.convert.files.budget import CHARACTER, OBJECT
from keras_nonlocal.convert.files.pickle_machine import Global, Record, hashable


def encode(budget, text, encoding="latin1"):
    """`_codecs.encode`: how protocols 0-2 of Python 3 write bytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise CheckpointError("its pickle encodes a text other than as bytes.")
    budget.charge(len(text))
    return text.encode("latin-1")


def make_bytes(budget, content=b"", encoding="latin1"):
    if isinstance(content, bytes):
        return content
    return encode(budget, content, encoding)


def make_list(budget, items=()):
    budget.charge(OBJECT * len(items))
    return list(items)


def make_tuple(budget, items=()):
    return tuple(make_list(budget, items))


def make_set(budget, items=()):
    return {hashable(item) for item in make_list(budget, items)}


def make_dict(budget, items=()):
    """`dict`, `OrderedDict` and `Counter`: of a dict, or of pairs."""
    pairs = items.items() if isinstance(items, dict) else items
    return {hashable(key): value for key, value in make_list(budget, pairs)}


def make_default_dict(budget, factory=None, items=()):
    return make_dict(budget, items)


def make_record(budget, *arguments):
    record = Record()
    record.build(arguments, budget)
    return record


def make_text(budget, text=""):
    """`TorchVersion`, a str with methods."""
    return text if isinstance(text, str) else ""


def make_path(budget, *parts):
    parts = [part for part in parts if isinstance(part, str)]
    budget.charge(sum(map(len, parts)) * CHARACTER, "paths")
    return "/".join(parts)


def reconstruct(budget, kind, base=None, state=None):
    """`copyreg._reconstructor`: how protocols 0 and 1 make an object."""
    record = kind.call(budget)
    if not isinstance(record, Record):
        raise CheckpointError(f"its pickle wants to make {kind.name!r}: refused.")
    record.build(state, budget)
    return record


def name_of_method(budget, owner, name):
    """`getattr(class, "method")`: mmengine's history names its statistics so."""
    known = isinstance(owner, Global) and owner.call is make_record
    if not (known and isinstance(name, str)):
        raise CheckpointError("its pickle asks for `getattr`: refused.")
    budget.charge(len(name) * CHARACTER, "names")
    return f"{owner.name}.{name}"


def in_both_pythons(names):
    """Python 2 says `__builtin__` and `copy_reg`."""
    return {
        (module, name): call
        for (modules, name), call in names.items()
        for module in modules
    }


BUILTINS = ("builtins", "__builtin__")
COPYREG = ("copyreg", "copy_reg")
PYTHON = in_both_pythons(
    {
        (BUILTINS, "bytes"): make_bytes,
        (BUILTINS, "bytearray"): make_bytes,
        (BUILTINS, "list"): make_list,
        (BUILTINS, "tuple"): make_tuple,
        (BUILTINS, "set"): make_set,
        (BUILTINS, "frozenset"): make_set,
        (BUILTINS, "dict"): make_dict,
        (BUILTINS, "int"): None,
        (BUILTINS, "float"): None,
        (BUILTINS, "object"): None,
        (BUILTINS, "getattr"): name_of_method,
        (COPYREG, "_reconstructor"): reconstruct,
        (("_codecs",), "encode"): encode,
        (("collections",), "OrderedDict"): make_dict,
        (("collections",), "Counter"): make_dict,
        (("collections",), "defaultdict"): make_default_dict,
        (("pathlib",), "PosixPath"): make_path,
        (("pathlib",), "WindowsPath"): make_path,
    }
)

# Settings and logs that real checkpoints carry beside the weights: kept as dicts.
RECORDS = {
    ("addict.addict", "Dict"): make_record,
    ("argparse", "Namespace"): make_record,
    ("fvcore.common.config", "CfgNode"): make_record,
    ("iopath.common.config", "CfgNode"): make_record,
    ("mmcv.utils.config", "ConfigDict"): make_record,
    ("mmengine.config.config", "ConfigDict"): make_record,
    ("mmengine.logging.history_buffer", "HistoryBuffer"): make_record,
    ("types", "SimpleNamespace"): make_record,
    ("yacs.config", "CfgNode"): make_record,
}

NAMES = PYTHON | RECORDS | numpy_pickles.NAMES


def find_global(module, name, names=NAMES):
    """The `Global` that stands for `module.name`.

    Raises:
        CheckpointError: It is in no table: the checkpoint is refused.
    """
    full_name = f"{module}.{name}"[:200]
    if (module, name) not in names:
        raise CheckpointError(
            f"it is refused, because its pickle asks for {full_name!r}: code, not "
            "weights. Nothing of it was run. If you trust the file, load it with "
            "the program that wrote it and save the weights alone "
            "(`torch.save(model.state_dict(), path)`, or a dict of NumPy arrays)."
        )
    return Global(full_name, names[module, name])
