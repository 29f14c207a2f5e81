"""Does a machine's class fit its plant? Every problem is found, each with the line it stands in."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tagwerk.actors.machines.declare import (
    KEEP,
    MISSING,
    TYPES,
    Output,
    Parameter,
    inputs_of,
    outputs_of,
    parameters_of,
)
from tagwerk.actors.machines.machine import BUILT_IN, Machine
from tagwerk.actors.machines.wires import to_tag
from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.runtime import units
from tagwerk.runtime.plantfile_models import MachineConfig, TagConfig

_DELTA: Final = "delta_"
_NUMBERS: Final = ("float", "int")


class Source:
    """Where a class and what it declares stand in their files.

    Args:
        machine: The class.
    """

    def __init__(self, machine: type) -> None:
        self._machine = machine
        self._files: dict[str, ast.Module] = {}

    def error(self, name: str, message: str, value: object = "", expected: str = "") -> ConfigError:
        """An error at the declaration of an attribute; `name` "" is the class itself."""
        base = next((base for base in self._machine.__mro__ if name in vars(base)), self._machine)
        file, line = self._place(base, name)
        key = f"{self._machine.__name__}.{name}" if name else self._machine.__name__
        return ConfigError(message, file=file, line=line, key=key, value=str(value), expected=expected)

    def _place(self, base: type, name: str) -> tuple[str, int | None]:
        try:
            file = inspect.getsourcefile(base) or ""
            if file not in self._files:
                self._files[file] = ast.parse(Path(file).read_bytes())
        except (OSError, TypeError, SyntaxError, ValueError):  # no source: a compiled module, or made at run time
            return "", None
        tree = self._files[file]
        body = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == base.__name__), None)
        if body is None:
            return file, None
        return file, next((node.lineno for node in body.body if name in _names(node)), body.lineno)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return [node.name] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else []


def chart_errors(machine: type[Machine], source: Source) -> Iterator[ConfigError]:
    """What is wrong with states, events and methods."""
    if any(state.states for state in machine.states):
        yield source.error("", "states within states are not supported", expected="states side by side")
    chart: Any = machine  # the class's own events are a property of its metaclass
    for event in chart.events:
        name = str(event.id)
        if name in BUILT_IN:
            yield source.error(name, "every machine has this event already", name, "another name")
        if getattr(event, "delay", None):
            yield source.error(
                name, "a delayed event would block the machine", expected="elapsed_s, looked at in cycle"
            )
    for name, value in inspect.getmembers(machine, inspect.iscoroutinefunction):
        yield source.error(name, "a coroutine is never awaited here", value.__name__, "a plain function")


def input_errors(machine: type[Machine], source: Source, tags: Mapping[str, TagConfig]) -> Iterator[ConfigError]:
    """What is wrong with the inputs."""
    for name, given in inputs_of(machine).items():
        tag = tags.get(given.tag)
        if tag is None:
            yield source.error(name, "there is no such tag", given.tag, "a tag of the plant file")
        elif problem := unit_problem(given.unit, tag):
            yield source.error(name, problem, given.unit, _unit_expected(tag))


def output_errors(machine: type[Machine], source: Source, tags: Mapping[str, TagConfig]) -> Iterator[ConfigError]:
    """What is wrong with the outputs."""
    for name, given in outputs_of(machine).items():
        if given.tag is None:
            yield from _published_errors(given, source)
            continue
        if given.safe is MISSING:
            yield source.error(name, "the output has no safe value", given.tag, f'safe = a value, or safe = "{KEEP}"')
        tag = tags.get(given.tag)
        if tag is None:
            yield source.error(name, "there is no such tag", given.tag, "a tag of the plant file")
        elif not tag.writable:
            yield source.error(name, "the tag is not writable", given.tag, "writable = true for this tag")
        elif problem := unit_problem(given.unit, tag):
            yield source.error(name, problem, given.unit, _unit_expected(tag))
        elif problem := _safe_problem(given, tag):
            yield source.error(name, f"the safe value does not fit: {problem}", given.safe, _range(tag))


def _published_errors(given: Output, source: Source) -> Iterator[ConfigError]:
    if given.safe is not MISSING:
        yield source.error(given.name, "only an output with a tag has a safe value", given.safe, "no safe, or a tag")
    if given.type not in TYPES:
        yield source.error(given.name, "there is no such type", given.type, ", ".join(TYPES))
    elif given.unit and given.type not in _NUMBERS:
        yield source.error(given.name, f"a {given.type} has no unit", given.unit, 'unit = ""')
    elif given.unit and (problem := units.check_unit(given.unit)):
        yield source.error(given.name, problem, given.unit, "a unit that pint knows")


def _safe_problem(given: Output, tag: TagConfig) -> str:
    if given.safe is MISSING or given.safe == KEEP:
        return ""
    try:
        value = to_tag(given.safe, given.unit or tag.unit, tag.unit, tag.type, tag.name)
    except Refused as error:
        return error.message
    if isinstance(value, str):
        return ""
    low = tag.low if tag.write_low is None else tag.write_low
    high = tag.high if tag.write_high is None else tag.write_high
    if (low is not None and value < low) or (high is not None and value > high):
        return f"{value:g} {tag.unit} is outside the tag's range"
    return ""


def unit_problem(unit: str, tag: TagConfig) -> str:
    """What is wrong with this unit for values of the tag, or ""."""
    if not unit or unit == tag.unit:
        return ""
    if tag.type not in _NUMBERS:
        return f"a {tag.type} tag has no unit"
    if problem := units.check_unit(unit):
        return problem
    if not tag.unit:
        return "the tag has no unit to convert from"
    if not units.compatible(unit, tag.unit):
        return f"the tag's values cannot be converted to {unit}"
    one_is_difference = unit.startswith(_DELTA) != tag.unit.startswith(_DELTA)
    absolute = tag.unit if unit.startswith(_DELTA) else unit
    # 0 degC is not 0 K: such a unit has an offset, and a difference in it is another thing.
    if one_is_difference and units.compatible(absolute, "kelvin") and units.convert(0.0, absolute, "kelvin") != 0.0:
        return "one is a difference, the other a temperature"
    return ""


def parameter_errors(
    machine: type[Machine], source: Source, config: MachineConfig, section: str
) -> Iterator[ConfigError]:
    """What is wrong with the parameters, as declared and as set in the plant file."""
    declared = parameters_of(machine)
    for name, given in declared.items():
        if given.type_name not in TYPES:
            yield source.error(name, "the default has a wrong type", given.default, ", ".join(TYPES))
        elif problem := _parameter_problem(given, given.default):
            yield source.error(
                name, f"the default does not fit: {problem}", given.default, "a default within low and high"
            )
        if given.unit and (problem := units.check_unit(given.unit) or ""):
            yield source.error(name, problem, given.unit, "a unit that pint knows")
    for name, value in config.parameters.items():
        key = f"{section}.parameters.{name}"
        if name not in declared:
            expected = ", ".join(declared) or "none: the class declares no parameter"
            yield ConfigError("the machine has no such parameter", key=key, value=str(value), expected=expected)
        elif problem := _parameter_problem(declared[name], value):
            unit = f" in {declared[name].unit}" if declared[name].unit else ""
            yield ConfigError(problem, key=key, value=str(value), expected=f"{declared[name].type_name}{unit}")


def _parameter_problem(given: Parameter[Any], value: object) -> str:
    try:
        given.accept(value)
    except Refused as error:
        return error.message
    return ""


def _unit_expected(tag: TagConfig) -> str:
    return f"a unit that {tag.unit} converts to" if tag.unit else 'unit = ""'


def _range(tag: TagConfig) -> str:
    low = tag.low if tag.write_low is None else tag.write_low
    high = tag.high if tag.write_high is None else tag.write_high
    span = "" if low is None and high is None else f" in {'' if low is None else low}..{'' if high is None else high}"
    return f"{tag.type}{span} {tag.unit}".rstrip()
