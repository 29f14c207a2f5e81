"""From what a machine declares to tags: handles, units, owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tagwerk.actors.machines.declare import MISSING, Input, Output, inputs_of, outputs_of
from tagwerk.protocols.errors import ConfigError, Refused, RefusedCode
from tagwerk.protocols.samples import Value
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime import units

LINK: Final = "opcua/"
"""Actors of this kind keep leases: their outputs stand on devices."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One input or output and its tag.

    Args:
        name: The attribute.
        tag: Its tag.
        unit: The unit of the attribute.
        required: Of an input: whether the machine needs it.
        published: Of an output: whether the tag is the machine's own.
        safe: Of an output: its safe value in the tag's unit; None: it stays as it is.
    """

    name: str
    tag: TagDef
    unit: str
    required: bool = False
    published: bool = False
    safe: Value = None

    @property
    def owner(self) -> str:
        """The link that keeps the lease of this output, or "" if it has no device."""
        return self.tag.source if self.tag.source.startswith(LINK) else ""

    def own(self, value: Value) -> Value:
        """A value of the tag in the unit of the attribute."""
        if isinstance(value, (bool, str)) or value is None or self.unit == self.tag.unit:
            return value
        return units.convert(float(value), self.tag.unit, self.unit)

    def to_tag(self, value: Value) -> float | int | bool | str:
        """A value of the attribute as the tag takes it.

        Raises:
            Refused: `BadValue` or `WrongType`.
        """
        return to_tag(value, self.unit, self.tag.unit, self.tag.type, self.tag.name)


def to_tag(value: Value, unit: str, tag_unit: str, tag_type: str, tag: str) -> float | int | bool | str:
    """A value in `unit` as a tag of this type and unit takes it.

    Raises:
        Refused: `BadValue` if there is no value, or it is not whole for an int; `WrongType` if it does not fit.
    """
    if value is None:
        raise Refused(RefusedCode.BAD_VALUE, "no value, or one that is not finite", tag)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (int, float)) and number and tag_type in ("float", "int"):
        converted: float = units.convert(float(value), unit, tag_unit) if unit != tag_unit else value
        if tag_type == "float":
            return float(converted)
        if abs(converted - round(converted)) > 1e-9 * max(1.0, abs(converted)):
            raise Refused(RefusedCode.BAD_VALUE, f"{converted} is not whole", tag)
        return round(converted)
    if (tag_type == "bool" and isinstance(value, bool)) or (tag_type == "str" and isinstance(value, str)):
        return value
    raise Refused(RefusedCode.WRONG_TYPE, f"{value!r} is no {tag_type}", tag)


def wire_inputs(machine: type, tags: Mapping[str, TagDef]) -> dict[str, Wire]:
    """The inputs of a machine's class, by name.

    Raises:
        ConfigError: A tag does not exist.
    """
    return {name: _input(given, tags) for name, given in inputs_of(machine).items()}


def wire_outputs(machine: type, own_name: str, tags: Mapping[str, TagDef]) -> dict[str, Wire]:
    """The outputs of a machine's class, by name.

    Args:
        machine: The class.
        own_name: The machine's name, the first part of the tags that are its own.
        tags: All definitions by name.

    Raises:
        ConfigError: A tag does not exist, or a safe value does not fit.
    """
    return {name: _output(given, own_name, tags) for name, given in outputs_of(machine).items()}


def _input(given: Input, tags: Mapping[str, TagDef]) -> Wire:
    tag = _tag(given.tag, given.name, tags)
    return Wire(given.name, tag, given.unit or tag.unit, required=given.required)


def _output(given: Output, own_name: str, tags: Mapping[str, TagDef]) -> Wire:
    if given.tag is None:
        tag = _tag(f"{own_name}.{given.name}", given.name, tags)
        return Wire(given.name, tag, given.unit or tag.unit, published=True)
    if given.safe is MISSING:
        raise ConfigError(
            "the output has no safe value", key=given.name, value=given.tag, expected='safe = a value or "keep"'
        )
    tag = _tag(given.tag, given.name, tags)
    unit = given.unit or tag.unit
    try:
        safe = None if given.keeps else to_tag(given.safe, unit, tag.unit, tag.type, tag.name)
    except Refused as error:
        raise ConfigError(error.message, key=f"{given.name}.safe", value=str(given.safe), expected=tag.type) from error
    return Wire(given.name, tag, unit, safe=safe)


def _tag(name: str, attribute: str, tags: Mapping[str, TagDef]) -> TagDef:
    tag = tags.get(name)
    if tag is None:
        raise ConfigError("there is no such tag", key=attribute, value=name, expected="a tag of the plant file")
    return tag
