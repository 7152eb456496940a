"""The pickle machine: reads the opcodes of protocols 0-5 and can run no code.

A pickle is a program for a small stack machine. Python's own machine imports and
calls whatever the program names. This one has no import and no getattr: a name in
the program is looked up as text in a fixed table (`pickle_globals`), and what is
not there ends the reading. What it builds are plain values and inert stand-ins.
"""

import codecs
import struct

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.budget import OBJECT

HIGHEST_PROTOCOL = 5
MAX_MARKS = 1000  # open at the same time; honest checkpoints have a handful
MAX_INTEGER_BYTES = 1024
SCALARS = (str, bytes, bool, float, type(None))


class Global:
    """Stands for a class or function that the pickle names.

    Args:
        name: `"module.name"` as in the pickle.
        call: Ours, `(budget, *arguments) -> value`, used when the pickle calls
            it; None if it may only be named.
    """

    def __init__(self, name, call=None):
        self.name = name
        self.call = call


class Record(dict):
    """An object of a harmless class, kept as a dict of what it holds."""

    def build(self, state, budget):
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                budget.charge(OBJECT * len(part))
                self.update(part)


class PickleMachine:
    """Runs pickles that follow one another in `data`.

    Args:
        data: Bytes.
        find_global: `(module, name) -> Global`; raises for what is not allowed.
        budget: A `Budget`, charged for every object.
        find_persistent: `persistent id -> value`, for torch's storages.
    """

    def __init__(self, data, find_global, budget, find_persistent=None):
        self.data = data
        self.position = 0
        self.find_global = find_global
        self.find_persistent = find_persistent
        self.budget = budget

    def load(self):
        """The next pickle's value; leaves `position` behind its end."""
        self.stack, self.marks, self.memo = [], [], {}
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

    # === Bytes ===

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
            raise CheckpointError("it is truncated: its last line does not end.")
        return self.read(end + 1 - self.position)[:-1]

    # === Stack ===

    def push(self, value):
        self.stack.append(value)

    def make(self, value):
        self.budget.charge(OBJECT)
        self.stack.append(value)

    def pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise CheckpointError("its pickle takes more than it put: it is damaged.")
        return self.stack.pop()

    def top(self, kind):
        value = self.pop()
        if not isinstance(value, kind):
            raise CheckpointError("its pickle fills a value of the wrong type.")
        self.stack.append(value)
        return value

    def mark(self):
        if len(self.marks) >= MAX_MARKS:
            raise CheckpointError("its pickle is nested too deeply.")
        self.marks.append(len(self.stack))

    def pop_to_mark(self):
        if not self.marks:
            raise CheckpointError("its pickle closes what it never opened.")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop_or_pop_mark(self):
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def duplicate(self):
        value = self.pop()
        self.stack += [value, value]

    # === Memo ===

    def remember(self, index):
        value = self.pop()
        self.stack.append(value)
        self.budget.charge(OBJECT)
        self.memo[index] = value

    def recall(self, index):
        if index not in self.memo:
            raise CheckpointError("its pickle recalls what it never kept.")
        self.stack.append(self.memo[index])

    # === Containers ===

    def take(self, count):
        items = [self.pop() for _ in range(count)]
        return tuple(reversed(items))

    def append(self, items):
        self.top(list).extend(items)

    def set_items(self, items):
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[hashable(key)] = value

    def add_items(self, items):
        self.top(set).update(map(hashable, items))

    def make_dict(self):
        items = self.pop_to_mark()
        self.make({})
        self.set_items(items)

    # === Names and calls ===

    def named(self, module, name):
        if not (isinstance(module, str) and isinstance(name, str)):
            raise CheckpointError("its pickle names a class by something not text.")
        self.make(self.find_global(module, name))

    def read_global(self):
        module, name = self.line().decode(), self.line().decode()
        self.named(module, name)

    def call(self, function, arguments):
        if not isinstance(function, Global) or function.call is None:
            name = getattr(function, "name", type(function).__name__)
            raise CheckpointError(f"its pickle wants to call {name!r}: refused.")
        self.make(function.call(self.budget, *arguments))

    def reduce(self):
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def new_object_with_keywords(self):
        keywords = self.pop()
        if keywords:
            raise CheckpointError("its pickle makes an object by keywords: refused.")
        self.reduce()

    def read_instance(self):
        self.read_global()
        self.call(self.pop(), self.pop_to_mark())

    def make_instance(self):
        function, *arguments = self.pop_to_mark()
        self.call(function, arguments)

    def build(self):
        state, target = self.pop(), self.pop()
        self.stack.append(target)
        if hasattr(target, "build"):
            target.build(state, self.budget)
        elif not isinstance(target, dict):  # an OrderedDict's attributes: not needed
            raise CheckpointError("its pickle sets the state of a plain value.")

    def persistent(self, identity):
        if self.find_persistent is None:
            raise CheckpointError(
                "its pickle refers to data kept elsewhere (a persistent id), which "
                "a plain pickle does not have."
            )
        self.make(self.find_persistent(identity))

    # === Checks ===

    def check_protocol(self):
        protocol = self.number("<B")
        if protocol > HIGHEST_PROTOCOL:
            raise CheckpointError(f"pickle protocol {protocol} is unknown.")

    def check_frame(self):
        self.number("<Q")  # what lies inside is checked as it is read

    def refuse_extension(self):
        raise CheckpointError(
            "its pickle uses an extension code or a buffer kept elsewhere: refused."
        )


def hashable(key):
    """`key` if its hash is quick and cannot be made to collide."""
    if isinstance(key, SCALARS) or (isinstance(key, int) and abs(key) < 2**60):
        return key
    if isinstance(key, tuple) and len(key) <= 8:
        if not any(isinstance(part, tuple) for part in key):
            return tuple(map(hashable, key))
    raise CheckpointError(
        f"its pickle has a {type(key).__name__} as the key of a dict or the member of "
        "a set; only texts, numbers and short tuples of them are read."
    )


def integer(data):
    if len(data) > MAX_INTEGER_BYTES:
        raise CheckpointError(f"its pickle holds a number of {len(data)} bytes.")
    return int.from_bytes(data, "little", signed=True)


def integer_line(line):
    booleans = {b"00": False, b"01": True}
    return booleans[line] if line in booleans else int(line.rstrip(b"L"))


def quoted(line):
    """Python 2's `repr` of a str; its bytes are text or data, see `latin-1`."""
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
    b"c": PickleMachine.read_global,
    b"\x93": lambda m: m.named(*m.take(2)),
    b"R": PickleMachine.reduce,
    b"\x81": PickleMachine.reduce,
    b"\x92": PickleMachine.new_object_with_keywords,
    b"i": PickleMachine.read_instance,
    b"o": PickleMachine.make_instance,
    b"b": PickleMachine.build,
    b"P": lambda m: m.persistent(m.line().decode()),
    b"Q": lambda m: m.persistent(m.pop()),
    b"\x80": PickleMachine.check_protocol,
    b"\x95": PickleMachine.check_frame,
    b"\x82": PickleMachine.refuse_extension,
    b"\x83": PickleMachine.refuse_extension,
    b"\x84": PickleMachine.refuse_extension,
    b"\x97": PickleMachine.refuse_extension,
    b"\x98": PickleMachine.refuse_extension,
}
