"""Units."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagwerk.protocols.errors import Refused
from tagwerk.runtime.units import check_unit, compatible, convert, convert_delta, parse_quantity


@pytest.mark.parametrize(
    "unit", ["", "degC", "°C", "%", "percent", "bar", "m**3/h", "m^3/h", "L/min", "1/min", "kW h", "J/(kg*K)", "µS/cm"]
)
def test_sound_units(unit: str) -> None:
    assert check_unit(unit) is None


@pytest.mark.parametrize(
    ("unit", "hint"),
    [
        ("degc", "'degC'"),
        ("Bar", "'bar'"),
        ("m3/h", "'m**3/h'"),
        ("W/m2/K", "'W/m**2/K'"),
        ("Ohm", "'ohm'"),
        ("blurb", None),
        ("3 degC", "degC"),
        ("5", None),
        ("m**", None),
        ("(", None),
        ("9**9**9**9**9", None),
        ("m**99**99", None),
        ("m** 9 ** 9", None),
        ("__import__('os')", None),
        ("m.real", None),
        ("m()", None),
        ("a" * 65, None),
    ],
)
def test_wrong_units_say_what_would_be_right(unit: str, hint: str | None) -> None:
    problem = check_unit(unit)
    assert problem
    if hint:
        assert hint in problem


@settings(deadline=None)
@given(st.text("mK()*/^%19.- sd°é_", max_size=40))
def test_any_text_is_a_unit_or_a_problem(text: str) -> None:
    problem = check_unit(text)
    assert problem is None or "unit" in problem


def test_values_convert() -> None:
    assert convert(65.0, "degC", "degF") == 149.0
    assert convert(149.0, "degF", "degC") == 65.0
    assert convert(50, "%", "") == 0.5
    assert convert(0.1, "bar", "Pa") == 10000.0
    assert convert(3.3, "m**3/h", "L/min") == 55.0
    assert convert(7.25, "degC", "degC") == 7.25


def test_differences_convert_as_differences() -> None:
    assert convert_delta(5, "degC", "degF") == 9.0
    assert convert_delta(1, "degC", "K") == 1.0
    assert convert_delta(9, "degF/min", "degC/min") == 5.0
    assert convert_delta(1, "delta_degC", "degF") == 1.8
    assert convert_delta(2, "bar", "mbar") == 2000.0


@pytest.mark.parametrize(
    ("value", "one", "other"),
    [(1, "bar", "degC"), (1e308, "km", "mm"), (1, "foo", "bar"), (float("nan"), "bar", "Pa")],
)
def test_what_cannot_be_converted_is_refused(value: float, one: str, other: str) -> None:
    with pytest.raises(Refused) as refused:
        convert(value, one, other)
    assert refused.value.code == "BadValue"


def test_compatible() -> None:
    assert compatible("degC", "K")
    assert not compatible("degC", "bar")
    with pytest.raises(Refused):
        compatible("degC", "foo")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150 degF", (150.0, "degF")),
        ("65", (65.0, None)),
        (" -5degC ", (-5.0, "degC")),
        ("50%", (50.0, "%")),
        ("1e-3 bar", (0.001, "bar")),
        (".5 m/s", (0.5, "m/s")),
    ],
)
def test_quantities(text: str, expected: tuple[float, str | None]) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "1e999", "5 foo", "1,5 bar", "5 5"])
def test_wrong_quantities(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_quantity(text)
    assert refused.value.code == "BadValue"


@pytest.mark.slow
def test_pint_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, tagwerk.runtime.plantfile; sys.exit('pint' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )
