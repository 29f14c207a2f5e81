"""Values of tags: read from what a person typed, shown in a table, told in JSON."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.runtime.cli.times import rfc3339

if TYPE_CHECKING:
    from tagwerk.protocols.samples import TagValue, Value

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d+", re.ASCII)
_BOOLS: Final = MappingProxyType({"true": True, "on": True, "1": True, "false": False, "off": False, "0": False})
_INT64: Final = 1 << 63


def parsed(text: str, kind: str, unit: str, name: str, given_unit: str | None = None) -> float | int | bool | str:
    """Read a value as the type of its tag; a number may bring its unit, which is then converted.

    Args:
        text: What was typed, `65`, `150 degF`, `on`.
        kind: `float`, `int`, `bool` or `str`.
        unit: The unit that the result is in, "" for none.
        name: Whose value it is, for the refusal.
        given_unit: The unit of `text`, if that was said apart.

    Raises:
        Refused: WrongType: it is not of this type, or its unit does not fit.
    """
    if kind in ("str", "bool"):
        if given_unit:
            raise Refused(RefusedCode.WRONG_TYPE, f"{name} is a {kind}, it has no unit; got {given_unit!r}", name)
        return text if kind == "str" else _bool(text, name)
    if given_unit not in (None, "", unit) or not _NUMBER.fullmatch(text.strip()):
        return _converted(text, kind, unit, name, given_unit)
    return _int(text.strip(), name) if kind == "int" else _float(text, name)


def _bool(text: str, name: str) -> bool:
    value = _BOOLS.get(text.strip().lower())
    if value is None:
        raise Refused(RefusedCode.WRONG_TYPE, f"{name} is a bool; expected true or false, got {text!r}", name)
    return value


def _float(text: str, name: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused(RefusedCode.WRONG_TYPE, f"{name} is a float; {text!r} is too large for one", name)
    return value


def _int(text: str, name: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise Refused(RefusedCode.WRONG_TYPE, f"{name} is an int; expected a whole number, got {text!r}", name)
    value = int(text) if len(text) <= 20 else _INT64
    if not -_INT64 <= value < _INT64:
        raise Refused(RefusedCode.WRONG_TYPE, f"{name} is an int of 64 bits; {text[:40]!r} does not fit", name)
    return value


def _converted(text: str, kind: str, unit: str, name: str, given_unit: str | None) -> float | int:
    from tagwerk.runtime import units  # pint is slow to import, and few values bring a unit

    asked = f"{text} {given_unit or ''}".strip()
    expected = f"a number in {unit}, or with a unit that measures the same" if unit else "a number without a unit"
    try:
        number, written = units.parse_quantity(asked)
        if written is not None and not unit:
            raise Refused(RefusedCode.BAD_VALUE, f"it has no unit that {written!r} could be converted to")
        value = number if written is None else units.convert(number, written, unit)
    except Refused as error:
        message = f"{name}: expected {expected}, got {asked!r}: {error.message}"
        raise Refused(RefusedCode.WRONG_TYPE, message, name) from error
    if kind == "float":
        return value
    whole = round(value)
    if abs(value - whole) > 1e-9 * max(1.0, abs(value)):
        message = f"{name} is an int; {asked!r} is {value:g} {unit}, not a whole number"
        raise Refused(RefusedCode.WRONG_TYPE, message.strip(), name)
    return whole


def plain(value: Value) -> Value:
    """Give a value for JSON; what is no number there (NaN, infinity) is None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(value: Value) -> str:
    """Give a value for a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    return printable(value) if isinstance(value, str) else str(value)


def printable(text: str) -> str:
    """Give a text without control characters: what a device sends must not move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def with_unit(value: Value, unit: str) -> str:
    """Give a value and its unit for a line of text."""
    return f"{shown(value)} {unit}" if unit and value is not None else shown(value)


def row_of(value: TagValue) -> dict[str, Any]:
    """Give the object that every command shows for a value."""
    from tagwerk.protocols.quality import name_of

    return {
        "tag": value.tag,
        "value": plain(value.value),
        "unit": value.unit,
        "quality": name_of(value.quality),
        "quality_code": value.quality,
        "time": rfc3339(value.time_ns),
        "received": rfc3339(value.received_ns),
    }
