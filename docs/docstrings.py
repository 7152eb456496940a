"""Lets griffe read the docstrings of this repository, which are written as Keras's.

A griffe extension, named in mkdocs.yml. Google style indents what is under a heading;
here the doctest under "Example:" is not indented, and "Call arguments:" is a heading
that Google style does not have, "Returns:" has a text without a type before it, and
several arguments may share a description.
"""

import re
import textwrap

import griffe

_EXAMPLE = re.compile(r"^Example:\n((?:.+\n?)+)", re.M)
_CALL_ARGUMENTS = re.compile(r"^Call arguments:\n((?: +.+\n?|\n(?= ))+)", re.M)
_RETURNS = re.compile(r"^Returns:\n((?: +.+\n?|\n(?= ))+)", re.M)
_NAMES = re.compile(r"^( +(?:\w+, )*\w+,)\n +((?:\w+, )*\w+: )", re.M)
_PRODUCT = re.compile(r"(?<=\w)\*(?=\w)")  # N*M is not the start of emphasis


class KerasDocstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = to_google_style(obj.docstring.value)


def to_google_style(text):
    """The docstring with headings that griffe's parser for Google style accepts."""
    text = _PRODUCT.sub(r"\\*", text)
    text = _NAMES.sub(r"\1 \2", text)
    text = _CALL_ARGUMENTS.sub(lambda found: _call_arguments(found[1]), text)
    text = _RETURNS.sub(
        lambda found: "**Returns:**\n\n" + textwrap.dedent(found[1]), text
    )
    return _EXAMPLE.sub(lambda found: "Examples:\n" + _indent(found[1]), text)


def _call_arguments(block):
    items = re.sub(r"^(\w+): ", r"- `\1`: ", textwrap.dedent(block), flags=re.M)
    return "**Call arguments:**\n\n" + items


def _indent(block):
    return textwrap.indent(textwrap.dedent(block), "    ")
