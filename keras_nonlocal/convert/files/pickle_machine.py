"""A stack machine for pickles that can run no code.

A pickle is a program for a small stack machine. Python's own machine imports and
calls whatever the program names. This one has no import and no getattr: a name in
the program is looked up as text in a fixed table (`pickle_names`), and what is
not there ends the reading. What it builds are plain values and inert stand-ins.

No operation costs more time or memory than the bytes of pickle that ask for it, or
than it charges to the budget: a few bytes can name a large value again and again.
"""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.budget import OBJECT

MAX_ARGUMENTS = 100
MAX_MARKS = 1000  # open at the same time; honest checkpoints have a handful
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
        parts = state if isinstance(state, tuple) else (state,)
        budget.charge(OBJECT * len(parts))
        for part in parts:
            if isinstance(part, dict):
                budget.charge(OBJECT * len(part))
                self.update(part)


class PickleMachine:
    """A stack, marks in it, a memo, and the operations that opcodes stand for.

    Args:
        find_global: `(module, name) -> Global`; raises for what is not allowed.
        budget: A `Budget`, charged for every object.
        find_persistent: `persistent id -> value`, for torch's storages.
    """

    def __init__(self, find_global, budget, find_persistent=None):
        self.find_global = find_global
        self.budget = budget
        self.find_persistent = find_persistent
        self.clear()

    def clear(self):
        self.stack, self.marks, self.memo = [], [], {}

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
        if not 0 <= index < 2**32:  # larger ones can be made to collide
            raise CheckpointError("its pickle keeps a value at an impossible place.")
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

    def call(self, function, arguments):
        if not isinstance(function, Global) or function.call is None:
            name = getattr(function, "name", type(function).__name__)
            raise CheckpointError(f"its pickle wants to call {name!r}: refused.")
        if len(arguments) > MAX_ARGUMENTS:
            raise CheckpointError(
                f"its pickle calls {function.name!r} with {len(arguments)} arguments."
            )
        self.make(function.call(self.budget, *arguments))

    def reduce(self):
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def new_object_with_keywords(self):
        keywords = self.pop()
        if keywords:
            raise CheckpointError("its pickle makes an object by keywords: refused.")
        self.reduce()

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


def hashable(key):
    """`key` if its hash is quick and cannot be made to collide."""
    if isinstance(key, SCALARS) or (isinstance(key, int) and abs(key) < 2**60):
        return key
    if isinstance(key, tuple) and len(key) <= 8:
        numbers = sum(isinstance(part, int | float) for part in key)
        # Two numbers can be chosen for any hash; texts' hashes nobody knows.
        if numbers <= 1 and not any(isinstance(part, tuple) for part in key):
            return tuple(map(hashable, key))
    raise CheckpointError(
        f"its pickle has a {type(key).__name__} as the key of a dict or the member of "
        "a set; only texts, numbers and short tuples of texts and at most one number "
        "are read."
    )
