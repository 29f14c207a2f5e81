"""What a person types and reads: values, units, times, durations."""

from __future__ import annotations

import math
import time

import pytest
import typer

from tagwerk.protocols.errors import Refused
from tagwerk.protocols.samples import TagValue
from tagwerk.runtime.cli import times, values

NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("65", "float", 65.0),
        ("-6.5e-1", "float", -0.65),
        (".5", "float", 0.5),
        ("65", "int", 65),
        ("-9223372036854775808", "int", -(2**63)),
        ("on", "bool", True),
        ("OFF", "bool", False),
        ("0", "bool", False),
        ("65 degC", "str", "65 degC"),
        ("", "str", ""),
    ],
)
def test_a_value_is_read_as_the_type_of_its_tag(text: str, kind: str, expected: object) -> None:
    value = values.parsed(text, kind, "", "a.b")
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "kind", "unit"),
    [
        ("warm", "float", "degC"),
        ("nan", "float", ""),
        ("inf", "float", "degC"),
        ("1e999", "float", ""),
        ("6.5", "int", ""),
        ("9223372036854775808", "int", ""),
        ("1" * 5000, "int", ""),
        ("1_000", "int", ""),
        ("2", "bool", ""),
        ("5 bar", "float", "degC"),
        ("5 bar", "float", ""),
        ("5 furlongs of", "float", "m"),
        ("1.5 mm", "int", "mm"),
    ],
)
def test_what_is_not_of_the_type_is_refused_and_names_the_tag(text: str, kind: str, unit: str) -> None:
    with pytest.raises(Refused) as refused:
        values.parsed(text, kind, unit, "a.b")
    assert refused.value.code == "WrongType"
    assert refused.value.tag == "a.b"
    assert "a.b" in refused.value.message


@pytest.mark.parametrize(
    ("text", "given", "kind", "unit", "expected"),
    [
        ("149 degF", None, "float", "degC", 65.0),
        ("149", "degF", "float", "degC", 65.0),
        ("65", "degC", "float", "degC", 65.0),
        ("2 cm", None, "int", "mm", 20),
        ("65 degC", None, "float", "degC", 65.0),
    ],
)
def test_a_unit_is_converted(text: str, given: str | None, kind: str, unit: str, expected: float) -> None:
    value = values.parsed(text, kind, unit, "a.b", given)
    assert value == pytest.approx(expected)
    assert type(value) is type(expected)


@pytest.mark.parametrize("kind", ["bool", "str"])
def test_only_numbers_have_units(kind: str) -> None:
    with pytest.raises(Refused, match="has no unit"):
        values.parsed("on", kind, "", "a.b", "degC")


def test_the_object_of_a_value() -> None:
    row = values.row_of(TagValue("a.b", 65.5, "degC", 0x80310000, 1_700_000_000_000_000_001, 0))
    assert row == {
        "tag": "a.b",
        "value": 65.5,
        "unit": "degC",
        "quality": "BadNoCommunication",
        "quality_code": 0x80310000,
        "time": "2023-11-14T22:13:20.000000001Z",
        "received": None,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_null(value: float) -> None:
    assert values.plain(value) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (65.0, "65"),
        (0.1 + 0.2, "0.3"),
        (3, "3"),
        ("a\x1b[2J\n", "a\\x1b[2J\\n"),
        ("é", "é"),
    ],
)
def test_a_value_in_a_table(value: float | int | bool | str | None, text: str) -> None:
    assert values.shown(value) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1m", 60), ("2h", 7200), ("1d", 86400), ("500ms", 0.5), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert times.duration_ns(text) == round(seconds * 1e9)


@pytest.mark.parametrize("text", ["", "1", "m", "-1m", "1y", "1m30s", "now"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number and its unit"):
        times.duration_ns(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        ("now-1h", NOW_NS - 3600 * 10**9),
        ("now+90s", NOW_NS + 90 * 10**9),
        ("2023-11-14T22:13:20Z", NOW_NS),
        ("2023-11-14T22:13:20.000000001Z", NOW_NS + 1),
        ("2023-11-14T23:13:20.5+01:00", NOW_NS + 500_000_000),
        ("2023-11-14 17:13:20-0500", NOW_NS),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert times.moment_ns(text, NOW_NS) == expected


def test_a_moment_without_a_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert times.moment_ns("2023-11-15 00:13:20", 0) == NOW_NS
        assert times.moment_ns("2023-11-15", 0) == NOW_NS - 800 * 10**9
        assert times.shown(NOW_NS, utc=False) == "2023-11-15 00:13:20.000+02:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2023-13-01", "2023-11-14T25:00Z", "now-", "0001-01-01", "9999-01-01T00:00:00Z"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        times.moment_ns(text, NOW_NS)


@pytest.mark.parametrize("at_ns", [1, NOW_NS, NOW_NS + 123_456_789, -1, times.END_OF_TIME_NS])
def test_a_time_in_json_is_read_back_exactly(at_ns: int) -> None:
    text = times.rfc3339(at_ns)
    assert text is not None
    assert times.moment_ns(text, 0) == at_ns


def test_no_time_is_null_in_json_and_a_dash_in_tables() -> None:
    assert times.rfc3339(0) is None
    assert times.rfc3339(None) is None
    assert times.shown(0, utc=True) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (3.21, "3.2s"), (250, "4m10s"), (7500, "2h05m"), (273_600, "3d04h")]
)
def test_durations_in_tables(seconds: float | None, text: str) -> None:
    assert times.shown_duration(seconds) == text
