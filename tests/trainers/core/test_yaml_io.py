"""YAML: numbers as in version 1.2, and no duplicate keys."""

import math

import pytest

from trainers.core.errors import UserError
from trainers.core.yaml_io import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1e-3", -1e-3),
        ("+2.5e+3", 2500.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("7", 7),
        ("1e", "1e"),
        ("e4", "e4"),
        ("v1.0", "v1.0"),
        ("true", True),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    parsed = parse_yaml(f"a: {text}", "x.yaml")["a"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_infinity_is_a_float():
    assert parse_yaml("[.inf, -.inf]", "x") == [math.inf, -math.inf]


def test_a_key_given_twice_is_refused_with_both_lines():
    with pytest.raises(UserError, match=r"x\.yaml.*'a' is given twice.*line 1.*line 3"):
        parse_yaml("a: 1\nb: 2\na: 3", "x.yaml")


def test_the_same_key_in_two_mappings_is_fine():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}", "x") == {"a": {"x": 1}, "b": {"x": 2}}


def test_merge_keys_still_work():
    text = "base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}"
    assert parse_yaml(text, "x")["more"] == {"x": 1, "y": 3}


def test_python_objects_are_refused():
    with pytest.raises(UserError, match=r"x\.yaml"):
        parse_yaml("a: !!python/tuple [1, 2]", "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 1\n b: 2",
        "a: \t@",
        "a: 2026-02-31",
        "{[a]: 1}",
        "a: *b",
        5000 * "9",
        2000 * "[",
        "\x00",
    ],
)
def test_whatever_cannot_be_parsed_is_named(text):
    with pytest.raises(UserError, match=r"x\.yaml: not valid YAML: .+"):
        parse_yaml(text, "x.yaml")


@pytest.mark.parametrize("text", ["- 1\n- 2", "word"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml.*key: value"):
        read_yaml(path)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere\.yaml: .*No such file"):
        read_yaml("nowhere.yaml")
