"""Expressions: the type of one before a run, its value in a run. Both walk the postfix form with a stack."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tagwerk.actors.orders.logic.pfdl.model import (
    BOOLEAN,
    NUMBER,
    STRING,
    Constant,
    Expression,
    Operator,
    Path,
    Place,
    Type,
)

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
)
_COUNT: Final[Mapping[str, Callable[[float, float], float]]] = MappingProxyType(
    {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
)


class Fault(Exception):  # noqa: N818  of the program that runs, not of ours
    """Something that a run cannot do: an element that is not there, a division by zero.

    Args:
        message: What.
        place: Where in the text.
    """

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def takes(symbol: str) -> tuple[Type, ...]:
    """Give the types whose values an operator takes; all its values are of one of them."""
    if symbol in _COUNT or symbol == "neg":
        return (NUMBER,)
    if symbol in ("And", "Or", "!"):
        return (BOOLEAN,)
    return (NUMBER, STRING, BOOLEAN) if symbol in ("==", "!=") else (NUMBER, STRING)


def gives(symbol: str) -> Type:
    """Give the type of an operator's result."""
    return NUMBER if symbol in _COUNT or symbol == "neg" else BOOLEAN


def value_of(expression: Expression, look_up: Callable[[Path], Any]) -> Any:
    """Work out an expression that has been checked.

    As everywhere, what stands right of an `And` or `Or` does not matter where the left side decides.

    Args:
        expression: A sound one.
        look_up: Gives the value of a path, or raises a Fault.

    Raises:
        Fault: From `look_up`, a division by zero, or a result that no 64-bit float holds.
    """
    stack: list[Any] = []
    for item in expression:
        try:
            if isinstance(item, Constant):
                stack.append(item.value)
            elif isinstance(item, Path):
                stack.append(look_up(item))
            else:
                right = stack.pop()
                stack.append(_single(item, right) if item.is_unary else _joined(item, stack.pop(), right))
        except Fault as fault:
            stack.append(fault)  # it may stand right of an `And` that does not need it
    if isinstance(stack[0], Fault):
        raise stack[0]
    return stack[0]


def _single(item: Operator, value: Any) -> Any:
    if isinstance(value, Fault):
        raise value
    return not value if item.symbol == "!" else -value


def _joined(item: Operator, left: Any, right: Any) -> Any:
    symbol = item.symbol
    if isinstance(left, Fault):
        raise left
    if symbol in ("And", "Or") and left == (symbol == "Or"):
        return left
    if isinstance(right, Fault):
        raise right
    if symbol in _COMPARE:
        return _COMPARE[symbol](left, right)
    if symbol in ("And", "Or"):
        return right
    if symbol == "/" and right == 0:
        raise Fault("a division by zero", item.place)
    result = _COUNT[symbol](float(left), float(right))
    if not math.isfinite(result):
        raise Fault("the result is too big for a number", item.place)
    return result
