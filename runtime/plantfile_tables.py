"""From a raw table to its model: every wrong key becomes a problem, and the rest is still there to be checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tagwerk.runtime.plantfile_models import (
    AlarmConfig,
    ExternalConfig,
    HistorySection,
    JournalSection,
    MachineConfig,
    NodeConfig,
    ObserverSection,
    OpcuaConfig,
    OrderSection,
    PlantSection,
    ResourceConfig,
    Section,
    TagConfig,
)
from tagwerk.runtime.plantfile_text import KeyPath, one_of

C = TypeVar("C")
S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in one table.

    `path` is the key within the table, () the table itself. `needs` names other keys that the judgement rests on: if
    one of them is wrong itself, the problem is not worth telling.
    """

    path: KeyPath
    message: str
    value: object = None
    expected: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filled(Generic[C]):
    """A model, with defaults (or samples) in the place of its `bad` keys, and what is wrong with those."""

    config: C
    bad: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Form(Generic[C]):
    """How tables of one kind are read."""

    adapter: TypeAdapter[C]
    keys: Mapping[str, str]  # key -> what it means
    sample: Mapping[str, Any]

    def fill(self, table: Mapping[str, Any], **implied: Any) -> Filled[C]:
        """Give the model of a table; `implied` are fields that are not keys, such as the name."""
        unknown = [] if table.keys() <= self.keys.keys() else [key for key in table if key not in self.keys]
        problems = [self._unknown(key, table[key]) for key in unknown]
        bad = {problem.path[0] for problem in problems}
        sound = {key: value for key, value in table.items() if key not in bad} if bad else table
        try:
            return Filled(self.adapter.validate_python({**sound, **implied}), frozenset(bad), tuple(problems))
        except ValidationError as error:
            found = [self._problem(details) for details in error.errors(include_url=False)]
        wrong = {problem.path[0] for problem in found}
        kept = {key: value for key, value in sound.items() if key not in wrong}
        config = self.adapter.validate_python({**self.sample, **kept, **implied})
        return Filled(config, frozenset(bad | wrong), (*problems, *found))

    def _unknown(self, key: str, value: object) -> Problem:
        return Problem((key,), "unknown key", value, one_of(key, self.keys))

    def _problem(self, details: ErrorDetails) -> Problem:
        path = tuple(part for part in details["loc"] if isinstance(part, str))  # without places in lists
        if path[:1] == _LOG and len(path) > 1:
            return _log_problem(path[2:], details)
        if details["type"] == "missing":
            return Problem(path, "the key is missing", None, self.keys.get(path[0], ""))
        return Problem(path, _message(details), details["input"], _expected(details))


def _section_form(model: type[S]) -> Form[S]:
    keys = {field.alias or name: field.description or "" for name, field in model.model_fields.items()}
    return Form(TypeAdapter(model), MappingProxyType(keys), model.sample)


def _tag_form() -> Form[TagConfig]:
    fields: dict[str, Any] = TagConfig.__pydantic_fields__  # type: ignore[attr-defined]  # pyright: ignore
    keys = {name: field.description or "" for name, field in fields.items() if name != "name"}
    return Form(TypeAdapter(TagConfig), MappingProxyType(keys), MappingProxyType({}))


PLANT: Final = _section_form(PlantSection)
JOURNAL: Final = _section_form(JournalSection)
HISTORY: Final = _section_form(HistorySection)
TAG: Final = _tag_form()
ALARM: Final = _section_form(AlarmConfig)
OPCUA: Final = _section_form(OpcuaConfig)
MACHINE: Final = _section_form(MachineConfig)
ORDER: Final = _section_form(OrderSection)
OBSERVER: Final = _section_form(ObserverSection)
RESOURCE: Final = _section_form(ResourceConfig)
NODE: Final = _section_form(NodeConfig)
EXTERNAL: Final = _section_form(ExternalConfig)

LOG_KEYS: Final = ("deadband", "max_interval_s", "compression_dev")
_LOG: Final = ("log",)
_UNKNOWN: Final = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
_TYPES: Final = MappingProxyType(
    {
        "float_type": "a number",
        "finite_number": "a finite number",
        "int_type": "a whole number",
        "bool_type": "true or false",
        "string_type": "a text in quotes",
        "tuple_type": "a list of texts",
        "dict_type": "a table",
    }
)
_BOUNDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = MappingProxyType(
    {
        "greater_than": lambda ctx: f"more than {ctx['gt']:g}",
        "greater_than_equal": lambda ctx: f"at least {ctx['ge']:g}",
        "less_than": lambda ctx: f"less than {ctx['lt']:g}",
        "less_than_equal": lambda ctx: f"at most {ctx['le']:g}",
        "string_too_long": lambda ctx: f"at most {ctx['max_length']} characters",
    }
)


def _log_problem(key: KeyPath, details: ErrorDetails) -> Problem:
    """Give a problem of `log`, which is a flag or a table; the text names the table's key, as a CSV cell has none."""
    if not key:
        expected = "true, false, or a rule: log = {deadband = 0.5}, in CSV deadband=0.5; max_interval_s=60"
        return Problem(_LOG, "the value has a wrong type", details["input"], expected)
    path = (*_LOG, *key)
    if details["type"] in _UNKNOWN:
        return Problem(path, f"unknown key {key[0]}", details["input"], one_of(key[0], LOG_KEYS))
    return Problem(path, f"{key[0]}: {_message(details)}", details["input"], _expected(details))


def _message(details: ErrorDetails) -> str:
    if details["type"] == "literal_error":
        return "the value is not known"
    return "the value is out of range" if details["type"] in _BOUNDS else "the value has a wrong type"


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "literal_error":
        return one_of(str(details["input"]), re.findall(r"'([^']*)'", context["expected"]))
    if bound := _BOUNDS.get(details["type"]):
        return bound(context)
    return str(_TYPES.get(details["type"]) or context.get("expected") or details["msg"])
