"""Where keys stand in a TOML text."""

from __future__ import annotations

import pytest

from tagwerk.runtime.plantfile_text import KeyLines, key_text, line_of, one_of, parse_key, value_text

TEXT = '''# a comment
top = 1
[plant]
name = "x"   # [fake]
text = """
[tag.fake]
unit = "no"
"""
[ tag . "a.b" ] # kettle
unit = "bar"
'quoted key' = 5
[alarm.x]
limit = 5
tag.name = "nested"
files = [
  "a = b",
  "c",
]
[tag.'c.d'.sub]
low = 1
[tag."e\\u0041"]
high = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("plant",), 3),
        (("plant", "name"), 4),
        (("tag", "fake"), None),
        (("plant", "unit"), None),
        (("tag", "a.b"), 9),
        (("tag", "a.b", "unit"), 10),
        (("tag", "a.b", "quoted key"), 11),
        (("alarm", "x", "limit"), 13),
        (("alarm", "x", "tag"), 14),
        (("alarm", "x", "tag", "name"), 14),
        (("alarm", "x", "a"), None),
        (("tag", "c.d", "sub", "low"), 20),
        (("tag", "eA", "high"), 22),
        (("fake",), None),
    ],
)
def test_line_of(path: tuple[str, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line


def test_the_nearest_line_is_that_of_the_table_around() -> None:
    lines = KeyLines(TEXT)
    assert lines.nearest(("alarm", "x", "missing")) == 12
    assert lines.nearest(("gone", "x")) is None
    assert lines.nearest(()) is None


def test_keys_are_written_as_toml_does() -> None:
    path = ("tag", "a.b", "unit")
    assert key_text(path) == 'tag."a.b".unit'
    assert parse_key(key_text(path)) == path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (5, "5"),
        (1.5, "1.5"),
        ("a", "a"),
        (["a", 1], "[a, 1]"),
        ({"a": 1}, "a table"),
        ("x" * 999, "x" * 200 + "..."),
    ],
)
def test_values_are_written_as_in_the_file(value: object, text: str) -> None:
    assert value_text(value) == text


def test_the_likely_word_comes_first() -> None:
    assert one_of("Unitt", ["low", "unit"]) == "unit (did you mean that?); one of: low, unit"
    assert one_of("zzz", ["low", "unit"]) == "one of: low, unit"
