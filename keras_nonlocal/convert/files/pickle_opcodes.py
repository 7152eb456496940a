"""Pickles of protocols 0-5 read from bytes: what each opcode does, in one table."""

import codecs
import struct

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.pickle_machine import PickleMachine, hashable

HIGHEST_PROTOCOL = 5
MAX_INTEGER_BYTES = 1024


class PickleReader(PickleMachine):
    """Reads pickles that follow one another.

    Args:
        data: Bytes.
        find_global: As for `PickleMachine`; so are `budget` and `find_persistent`.
    """

    def __init__(self, data, find_global, budget, find_persistent=None):
        super().__init__(find_global, budget, find_persistent)
        self.data = data
        self.position = 0

    def load(self):
        """The next pickle's value; leaves `position` behind its end."""
        self.clear()
        while True:
            code = self.read(1)
            if code == b".":
                return self.pop()
            operation = OPERATIONS.get(code)
            if operation is None:
                raise CheckpointError(
                    f"byte {self.position - 1} is {code!r}, which is no pickle "
                    "opcode that a checkpoint has: the file is damaged."
                )
            operation(self)

    def read(self, count):
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise CheckpointError(
                f"it is truncated: byte {self.position} announces {count} more, "
                f"the file ends after {len(self.data) - self.position}. Download "
                "it again."
            )
        start, self.position = self.position, end
        return self.data[start:end]

    def number(self, layout):
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def counted(self, layout):
        return self.read(self.number(layout))

    def line(self):
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise CheckpointError(
                "it is truncated: its last line does not end. Download it again."
            )
        return self.read(end + 1 - self.position)[:-1]

    def read_global(self):
        module, name = self.line().decode(), self.line().decode()
        self.named(module, name)

    def read_instance(self):
        self.read_global()
        self.call(self.pop(), self.pop_to_mark())

    def check_protocol(self):
        protocol = self.number("<B")
        if protocol > HIGHEST_PROTOCOL:
            raise CheckpointError(f"its pickle protocol {protocol} is unknown.")

    def check_frame(self):
        self.number("<Q")  # what lies inside is checked as it is read

    def refuse_extension(self):
        raise CheckpointError(
            "its pickle uses an extension code or a buffer kept elsewhere: refused."
        )


def integer(data):
    if len(data) > MAX_INTEGER_BYTES:
        raise CheckpointError(f"its pickle holds a number of {len(data)} bytes.")
    return int.from_bytes(data, "little", signed=True)


def integer_line(line):
    booleans = {b"00": False, b"01": True}
    return booleans[line] if line in booleans else int(line.rstrip(b"L"))


def quoted(line):
    """Python 2's `repr` of a str; its bytes are text or data, latin-1 keeps both."""
    line = line.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise CheckpointError("its pickle has a string without quotes.")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def utf8(data):
    return data.decode("utf-8", "surrogatepass")


def latin1(data):
    return data.decode("latin-1")


OPERATIONS = {
    # Constants and numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(integer_line(m.line())),
    b"L": lambda m: m.push(integer_line(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(integer(m.counted("<B"))),
    b"\x8b": lambda m: m.push(integer(m.counted("<i"))),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    # Strings: Python 2's str (latin-1 keeps array data whole), unicode, bytes
    b"S": lambda m: m.make(quoted(m.line())),
    b"T": lambda m: m.make(latin1(m.counted("<i"))),
    b"U": lambda m: m.make(latin1(m.counted("<B"))),
    b"V": lambda m: m.make(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.make(utf8(m.counted("<I"))),
    b"\x8c": lambda m: m.make(utf8(m.counted("<B"))),
    b"\x8d": lambda m: m.make(utf8(m.counted("<Q"))),
    b"B": lambda m: m.make(m.counted("<I")),
    b"C": lambda m: m.make(m.counted("<B")),
    b"\x8e": lambda m: m.make(m.counted("<Q")),
    b"\x96": lambda m: m.make(m.counted("<Q")),  # a bytearray: nothing changes it
    # Containers
    b"(": PickleMachine.mark,
    b"0": PickleMachine.pop_or_pop_mark,
    b"1": PickleMachine.pop_to_mark,
    b"2": PickleMachine.duplicate,
    b")": lambda m: m.push(()),
    b"t": lambda m: m.make(tuple(m.pop_to_mark())),
    b"\x85": lambda m: m.make(m.take(1)),
    b"\x86": lambda m: m.make(m.take(2)),
    b"\x87": lambda m: m.make(m.take(3)),
    b"]": lambda m: m.make([]),
    b"l": lambda m: m.make(m.pop_to_mark()),
    b"a": lambda m: m.append(m.take(1)),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"}": lambda m: m.make({}),
    b"d": PickleMachine.make_dict,
    b"s": lambda m: m.set_items(m.take(2)),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    b"\x8f": lambda m: m.make(set()),
    b"\x90": lambda m: m.add_items(m.pop_to_mark()),
    b"\x91": lambda m: m.make(frozenset(map(hashable, m.pop_to_mark()))),
    # Memo
    b"p": lambda m: m.remember(int(m.line())),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    # Names and calls
    b"c": PickleReader.read_global,
    b"\x93": lambda m: m.named(*m.take(2)),
    b"R": PickleMachine.reduce,
    b"\x81": PickleMachine.reduce,
    b"\x92": PickleMachine.new_object_with_keywords,
    b"i": PickleReader.read_instance,
    b"o": PickleMachine.make_instance,
    b"b": PickleMachine.build,
    b"P": lambda m: m.persistent(m.line().decode()),
    b"Q": lambda m: m.persistent(m.pop()),
    b"\x80": PickleReader.check_protocol,
    b"\x95": PickleReader.check_frame,
    b"\x82": PickleReader.refuse_extension,
    b"\x83": PickleReader.refuse_extension,
    b"\x84": PickleReader.refuse_extension,
    b"\x97": PickleReader.refuse_extension,
    b"\x98": PickleReader.refuse_extension,
}
