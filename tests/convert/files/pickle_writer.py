"""Writes pickles by hand: of torch files without torch, of Python 2, of attackers."""

import dataclasses
import struct

import numpy as np


@dataclasses.dataclass
class Name:
    """A class or function, `"module.name"`."""

    name: str


@dataclasses.dataclass
class Call:
    """`name(*arguments)`, then its `__setstate__(state)`."""

    name: str
    arguments: tuple = ()
    state: object = None


@dataclasses.dataclass
class Persistent:
    """What torch keeps outside of the pickle."""

    identity: tuple


@dataclasses.dataclass
class Raw:
    """Opcodes as they are; they leave one value."""

    opcodes: bytes


def pickled(value, text=None):
    """A pickle of protocol 2; `text` writes the strings (default: unicode)."""
    return b"\x80\x02" + written(value, text or unicode) + b"."


def unicode(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def python2_string(text):
    """Python 2's str: bytes without a word about their encoding."""
    data = text.encode("latin-1")
    if len(data) < 256:
        return b"U" + bytes([len(data)]) + data
    return b"T" + struct.pack("<i", len(data)) + data


def python2_text_string(text):
    """The same in protocol 0: Python 2's repr."""
    return b"S" + repr(text.encode("latin-1"))[1:].encode() + b"\n"


def written(value, text):
    def recurse(part):
        return written(part, text)

    match value:
        case Raw():
            return value.opcodes
        case Name():
            module, _, name = value.name.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call():
            made = recurse(Name(value.name)) + recurse(value.arguments) + b"R"
            return made if value.state is None else made + recurse(value.state) + b"b"
        case Persistent():
            return recurse(value.identity) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"I01\n" if value else b"I00\n"
        case int():
            return f"L{value}L\n".encode()
        case str():
            return text(value)
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(recurse, value)) + b"t"
        case list():
            return b"(" + b"".join(map(recurse, value)) + b"l"
        case dict():
            items = (recurse(k) + recurse(v) + b"s" for k, v in value.items())
            return b"(d" + b"".join(items)
    raise TypeError(type(value))


def python2_array(array):
    """A NumPy 1 array as Python 2 wrote it: its numbers are a str."""
    code = array.dtype.str[1:]
    return Call(
        "numpy.core.multiarray._reconstruct",
        (Name("numpy.ndarray"), (0,), "b"),
        (
            1,
            array.shape,
            Call(
                "numpy.dtype",
                (code, 0, 1),
                (3, "<", None, None, None, -1, -1, 0),
            ),
            False,
            np.ascontiguousarray(array).tobytes().decode("latin-1"),
        ),
    )
