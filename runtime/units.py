"""Engineering units: pint, made once, at the first need.

pint takes some 0.3 s to import and to read its definitions, so it is imported inside the functions. A conversion costs
tens of microseconds: it belongs to the edges (plant file, command line, attach), never on an actor's hot path.
"""

from __future__ import annotations

import difflib
import math
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from tagwerk.protocols.errors import Refused, RefusedCode

if TYPE_CHECKING:
    from pint import Unit, UnitRegistry

UNIT_LIMIT: Final = 64  # characters of a unit

# pint evaluates what it is given; numbers only as small exponents keep towers of powers (9**9**9) and code out of it.
_TOKEN: Final = re.compile(
    r"\s+|(?P<x>(?:\*\*|\^)\s*-?\d{1,2}(?:\.\d{1,2})?(?![\d.]))|[*/·()]|1(?=\s*/)|%|°?[^\W\d]\w*|°"
)
_QUANTITY: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL)
_POWER: Final = re.compile(r"(?<![\w*^])([A-Za-zµ]+)([23])(?!\w)")


def check_unit(text: str) -> str | None:
    """Say what is wrong with a unit and what would be right, or None if it is sound; "" (no unit) is sound."""
    return _check(text) if text else None


def compatible(one: str, other: str) -> bool:
    """Tell whether values of one unit can be converted to the other.

    Raises:
        Refused: `BadValue` if one of them is not a unit.
    """
    return _unit(one).dimensionality == _unit(other).dimensionality


def convert(value: float, from_unit: str, to_unit: str) -> float:
    """Give the value in another unit: 65 degC is 149 degF.

    Raises:
        Refused: `BadValue` if a unit is unknown, the two do not measure the same, or the result is not finite.
    """
    return value if from_unit == to_unit else _convert(value, _unit(from_unit), _unit(to_unit))


def convert_delta(value: float, from_unit: str, to_unit: str) -> float:
    """Give a difference (deadband, rate, hysteresis) in another unit: 5 degC of difference are 9 degF.

    Raises:
        Refused: `BadValue` if a unit is unknown, the two do not measure the same, or the result is not finite.
    """
    return value if from_unit == to_unit else _convert(value, _delta(from_unit), _delta(to_unit))


def parse_quantity(text: str) -> tuple[float, str | None]:
    """Split "150 degF" into 150.0 and "degF"; the unit is None if there is only a number.

    Raises:
        Refused: `BadValue` if there is no finite number, or what follows it is not a unit.
    """
    match = _QUANTITY.fullmatch(text)
    number = float(match[1]) if match else math.nan
    if match is None or not math.isfinite(number):
        raise Refused(RefusedCode.BAD_VALUE, f"{text[:UNIT_LIMIT]!r} is not a number with an optional unit")
    unit = match[2]
    if problem := check_unit(unit):
        raise Refused(RefusedCode.BAD_VALUE, problem)
    return number, unit or None


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    from pint import UnitRegistry

    # Decimal: in binary floats 65 degC would be 148.99999999999994 degF.
    return UnitRegistry(non_int_type=cast("type[float]", Decimal), autoconvert_offset_to_baseunit=False)


@lru_cache(maxsize=1024)
def _check(text: str) -> str | None:
    if len(text) > UNIT_LIMIT:
        return f"the unit has {len(text)} characters, more than {UNIT_LIMIT}"
    if not _parses(text):
        hint = _suggestion(text)
        return f"{text!r} is not a unit" + (f"; did you mean {hint!r}?" if hint else "")
    return None


@lru_cache(maxsize=1024)
def _unit(text: str) -> Unit:
    if problem := check_unit(text):
        raise Refused(RefusedCode.BAD_VALUE, problem)
    return _registry().parse_units(text)


def _delta(text: str) -> Unit:
    unit = _unit(text)
    name = f"delta_{unit}"
    # Only units with an offset, such as degC, have a delta twin; in compounds (degC/min) pint takes it by itself.
    return _registry().parse_units(name) if " " not in name and name in _registry() else unit


def _convert(value: float, from_unit: Unit, to_unit: Unit) -> float:
    from pint.errors import PintError

    try:
        quantity = _registry().Quantity(Decimal(repr(float(value))), from_unit)
        result = float(quantity.to(to_unit).magnitude)
    except PintError as error:
        raise Refused(RefusedCode.BAD_VALUE, str(error)) from error
    except (ArithmeticError, TypeError) as error:  # not finite; a logarithmic unit, which older versions cannot convert
        raise Refused(RefusedCode.BAD_VALUE, f"{value} {from_unit} cannot be given in {to_unit}") from error
    if not math.isfinite(result):
        raise Refused(RefusedCode.BAD_VALUE, f"{value} {from_unit} is no finite number of {to_unit}")
    return result


def _harmless(text: str) -> bool:
    place, after_power = 0, False
    while match := _TOKEN.match(text, place):
        power = match["x"] is not None
        if power and after_power:
            return False
        place, after_power = match.end(), power or (after_power and match[0].isspace())
    return place == len(text)


def _parses(text: str) -> bool:
    from tokenize import TokenError

    from pint.errors import PintError

    if not _harmless(text):
        return False

    try:
        _registry().parse_units(text)
    # pint has no one error for text that it cannot read: an assertion, a tokenizer error, a wrong operand.
    except (PintError, AssertionError, AttributeError, TokenError, TypeError, ValueError):
        return False
    return True


def _suggestion(text: str) -> str | None:
    for guess in (_POWER.sub(r"\1**\2", text), text.lower(), text.replace("°", "deg")):
        if guess != text and _parses(guess):
            return guess
    known = {name.casefold(): name for name in dir(_registry())}
    close = difflib.get_close_matches(text.casefold(), known, n=1, cutoff=0.75)
    return known[close[0]] if close else None
