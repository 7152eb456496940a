"""JSON of files from elsewhere, charged for what it becomes."""

import json

OBJECTS = 30  # bytes of memory that a byte of JSON, such as `[],[],[]`, can take


def read_json(data, budget, **options):
    """`json.loads(data, **options)`, within a `Budget`.

    Example:

    >>> from keras_nonlocal.convert.files.budget import Budget
    >>> read_json(b'{"a": 1}', Budget(file_size=8))
    {'a': 1}
    """
    budget.charge(OBJECTS * len(data), "JSON")
    return json.loads(data, **options)
