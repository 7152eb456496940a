"""The YAML of config files and overrides, without PyYAML's surprises.

PyYAML reads `1e-4` as a string, and of two equal keys silently keeps the last.
"""

import re
from collections.abc import Sequence

import yaml

from trainers.core import files
from trainers.core.errors import UserError

# YAML 1.2's floats: `1e-4` and `1.e5` are numbers too.
_FLOAT = re.compile(
    r"""^(?:[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)
    |[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
# As in the Model Garden, one flag may hold several overrides: a.b=c,d.e=f
_ANOTHER_OVERRIDE = re.compile(r",(?=[A-Za-z_]\w*(?:\.\w+)+=)")

# A date such as 2026-02-31, a list as a key, and nesting without end are no YAMLErrors.
_INVALID = (yaml.YAMLError, ValueError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 floats that refuses duplicate keys."""

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key!r} is given twice, first in line {seen[key]}",
                    key_node.start_mark,
                )
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


# A table of its own, so that the parent class is not changed.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str, source: str):
    """Parses a YAML text; `source` names it in errors.

    Raises:
        UserError: Invalid YAML, or a duplicate key.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except _INVALID as error:
        raise UserError(f"{source}: not valid YAML: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} (line {mark.line + 1})" if mark else problem


def read_yaml(path) -> dict:
    """Reads the mapping in a YAML file.

    Raises:
        UserError: No such file, invalid YAML, or not a mapping.
    """
    text = files.read_text(path)
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict | None):
        raise UserError(f"{path}: expected `key: value` lines, found {value!r}.")
    return value or {}


def parse_overrides(overrides: Sequence[str]) -> list[tuple[str, dict]]:
    """Parses values of --params_override.

    Args:
        overrides: `a.b=c` or `a.b=c,d.e=f`; the values are YAML.

    Returns:
        `(flag, nested mappings)` of each, where the flag names it in errors.

    Raises:
        UserError: Not of this form, or invalid YAML.
    """
    return [
        (f"--params_override={text}", _parse_override(text))
        for several in overrides
        for text in _ANOTHER_OVERRIDE.split(several)
    ]


def _parse_override(text: str) -> dict:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--params_override={text}: expected a.b.c=value.")
    # `a.b=` sets an empty string, as in a shell; YAML would read null.
    nested = parse_yaml(value, f"--params_override={text}") if value else ""
    for key in reversed(keys):
        nested = {key: nested}
    return nested
