"""safetensors, read by the package of that name."""

from .arrays import BFLOAT16, NUMBERS, array
from .errors import ReadError, missing

PREFIXES = {"bool": "BOOL", "int": "I", "uint": "U", "float": "F", "complex": "C"}
DTYPES = {"BF16": BFLOAT16, "BOOL": "bool"} | {
    f"{letter}{name.removeprefix(kind)}": name
    for name in NUMBERS
    for kind, letter in PREFIXES.items()
    if name.removeprefix(kind).isdigit()
}
DAMAGES = {
    "not fully covered": "its arrays do not fill the file: it is truncated or damaged",
    "header length": "it is truncated: its header reaches beyond the end of the file",
    "offset": "its arrays overlap or leave gaps, or do not fit their shapes: it is "
    "damaged",
}


def read_safetensors(data, allowance):
    """`{name: array}`."""
    try:
        import safetensors
    except ImportError as error:
        raise missing("safetensors", "convert") from error
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        what = (text for reason, text in DAMAGES.items() if reason in str(error))
        what = next(what, f"its header is damaged ({str(error)[:300]})")
        raise ReadError(f"{what}. Download it again.") from error
    return {name: read_array(name, entry) for name, entry in entries}


def read_array(name, entry):
    if entry["dtype"] not in DTYPES:
        raise ReadError(
            f"{name!r} has dtype {entry['dtype']!r}, which is not read; expected one "
            f"of {sorted(DTYPES)}."
        )
    return array(entry["data"], DTYPES[entry["dtype"]], entry["shape"])
