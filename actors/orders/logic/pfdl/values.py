"""Values and their types: what does not fit, what is kept of it, and the zero of a type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.model import PRIMITIVES, Json, Place, Type

Fields: TypeAlias = Mapping[str, Mapping[str, Type]]
"""Struct -> field -> type."""

_BIGGEST: Final = 1.7976931348623157e308  # IEEE 754 binary64; comparing with it never overflows, and NaN is not below
_ZEROS: Final = (0, "", False)


class Misfit(NamedTuple):
    """Where and why a value is not of its type.

    Args:
        path: The fields and indices that lead to it.
        message: What is wrong.
        expected: What would be right.
        value: What stands there, as in JSON, shortened.
    """

    path: tuple[str | int, ...]
    message: str
    expected: str
    value: str

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        got = f" (got {self.value})" if self.value else ""
        return f"{where.removeprefix('.')}: {self.message}{got}".removeprefix(": ") + f"; expected {self.expected}"


def misfits(value: Any, type_: Type, fields: Fields, path: tuple[str | int, ...] = ()) -> Iterator[Misfit]:
    """Tell all that keeps a value from being of a type. Fields that the type has not are not told."""
    if type_.array:
        yield from _array_misfits(value, type_, fields, path)
    elif type_.name in PRIMITIVES:
        if (wrong := _wrong_primitive(value, type_.name)) is not None:
            yield Misfit(path, wrong, f"a {type_.name}", shown(value))
    elif not isinstance(value, dict):
        yield Misfit(path, "this is no struct", f"a {type_.name}, `{{...}}`", shown(value))
    else:
        for name, of in fields[type_.name].items():
            if name in value:
                yield from misfits(value[name], of, fields, (*path, name))
            else:
                yield Misfit(path, f"the field `{name}` of {type_.name} is missing", f'"{name}": {of}', "")


def _array_misfits(value: Any, type_: Type, fields: Fields, path: tuple[str | int, ...]) -> Iterator[Misfit]:
    if not isinstance(value, list):
        yield Misfit(path, "this is no array", f"{type_}, `[...]`", shown(value))
        return
    if type_.length is not None and len(value) != type_.length:
        yield Misfit(path, f"the array has {len(value)} elements", f"{type_.length}", "")
    for place, element in enumerate(value):
        yield from misfits(element, type_.element, fields, (*path, place))


def _wrong_primitive(value: Any, name: str) -> str | None:
    if name == "string":
        if not isinstance(value, str):
            return "this is no text"
        return None if _is_encodable(value) else "the text is not valid Unicode"
    if name == "boolean":
        return None if isinstance(value, bool) else "this is neither true nor false"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "this is no number"
    return None if abs(value) <= _BIGGEST else "no 64-bit float holds this number"


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def kept(value: Any, type_: Type, fields: Fields) -> Any:
    """Give a value that fits its type as programs see it: declared fields alone, numbers as 64-bit floats hold them."""
    if type_.array:
        return [kept(element, type_.element, fields) for element in value]
    if type_.name == "number":
        return value if isinstance(value, float) or abs(value) <= limits.EXACT_INTEGER else float(value)
    if type_.name in PRIMITIVES:
        return value
    return {name: kept(value[name], of, fields) for name, of in fields[type_.name].items()}


def zero(type_: Type, fields: Fields) -> Any:
    """Give the value that stands for nothing known: 0, "", false, an empty array, a struct of these."""
    if type_.array:
        return [zero(type_.element, fields) for _ in range(type_.length or 0)]
    if type_.name in PRIMITIVES:
        return _ZEROS[PRIMITIVES.index(type_.name)]
    return {name: zero(of, fields) for name, of in fields[type_.name].items()}


def type_of(text: str) -> Type:
    """Give the type that is written like this."""
    name, bracket, length = text.removesuffix("]").partition("[")
    return Type(name, bool(bracket), int(length) if length else None)


def plain(json: Json) -> Any:
    """Give a literal without its places."""
    if json.is_object:
        return {name: plain(value) for name, _, value in json.value}
    return [plain(element) for element in json.value] if json.is_array else json.value


def unknown_fields(json: Json, type_: Type, fields: Fields) -> Iterator[tuple[str, str, Place]]:
    """Give the fields of a literal that its type has not: struct, field, place."""
    if json.is_array and type_.array:
        for element in json.value:
            yield from unknown_fields(element, type_.element, fields)
    elif json.is_object and not type_.array and type_.name in fields:
        known = fields[type_.name]
        for name, place, value in json.value:
            if name in known:
                yield from unknown_fields(value, known[name], fields)
            else:
                yield type_.name, name, place


def place_of(json: Json, path: tuple[str | int, ...]) -> Place:
    """Give the place of a part of a literal."""
    for part in path:
        json = json.value[part] if isinstance(part, int) else next(v for name, _, v in json.value if name == part)
    return json.place


def shown(value: Any) -> str:
    """Give a value as a message shows it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return "{...}" if isinstance(value, dict) else "[...]"
    text = f'"{value}"' if isinstance(value, str) else repr(value)[:60]
    return text if len(text) <= 60 else text[:57] + '..."'
