"""What a simulation is told of services: how long each takes, how often it fails, what it gives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from tagwerk.actors.orders.logic.pfdl.model import Program
from tagwerk.actors.orders.logic.pfdl.talk import Output, ServiceStarted
from tagwerk.actors.orders.logic.pfdl.values import Fields, kept, misfits, shown, type_of, zero
from tagwerk.protocols.errors import ConfigError, ConfigErrors

MOST_SECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a service takes, in seconds of the virtual clock, and how likely it fails, 0 to 1."""

    duration_s: float = 1.0
    failure_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Paces:
    """The pace of each service; `default` for the others."""

    by_service: Mapping[str, Pace] = field(default_factory=dict[str, Pace])
    default: Pace = Pace()

    def of(self, service: str) -> Pace:
        """Give the pace of a service."""
        return self.by_service.get(service, self.default)


def read_paces(table: Mapping[str, Any], program: Program, file: str) -> Paces:
    """Make paces of a table: `Milling = 2.5`, or `[Milling]` with `duration_s` and `failure_rate`; `default` likewise.

    Raises:
        ConfigErrors: All that is wrong with it.
    """
    services = program.services() | {"default"}
    errors = [_unknown(name, services, file) for name in table if name not in services]
    found = {name: _pace(name, entry, file, errors) for name, entry in table.items()}
    if errors:
        raise ConfigErrors(errors)
    default = found.pop("default", Pace())
    return Paces(found, default)


def _pace(name: str, entry: object, file: str, errors: list[ConfigError]) -> Pace:
    pace = Pace()
    given = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {"duration_s": entry}
    for key, value in given.items():
        where = f"{name}.{key}" if isinstance(entry, dict) else name
        most = {"duration_s": MOST_SECONDS, "failure_rate": 1.0}.get(key)
        if most is None:
            wrong, expected = "the key is not known", "duration_s or failure_rate"
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            wrong, expected = "the value is not allowed", f"a number from 0 to {most:g}"
        else:
            pace = replace(pace, **{key: float(value)})
            continue
        errors.append(ConfigError(wrong, file=file, key=where, value=shown(value), expected=expected))
    return pace


def _unknown(name: str, known: Iterable[str], file: str) -> ConfigError:
    near = difflib.get_close_matches(name, sorted(known), 1)
    expected = f"{near[0]}?" if near else ", ".join(sorted(known))
    return ConfigError("the order calls no such service", file=file, key=name, expected=expected)


class Answers:
    """What services give.

    Args:
        table: Service -> answer, or a list of answers for its calls one after the other, of which the last one stays.
            An answer is an object of values by the outputs' names (or types), or the value itself of a single output.
        program: The order that is simulated.
        file: Where the table stands, for errors.

    Raises:
        ConfigErrors: A service is answered for that the order never calls, or a list is empty.
    """

    def __init__(self, table: Mapping[str, Any], program: Program, file: str) -> None:
        services = program.services()
        errors = [_unknown(name, services, file) for name in table if name not in services]
        for name, answer in table.items():
            if answer == []:
                errors.append(ConfigError("no answer in it", file=file, key=name, expected="at least one"))
        if errors:
            raise ConfigErrors(errors)
        self._table = table
        self._fields: Fields = program.fields
        self._file = file
        self._given: dict[str, int] = {}

    def to(self, call: ServiceStarted) -> dict[str, Any]:
        """Give the outputs of one call; each is used up by that.

        Without an answer an output is the input of its type, else that type's zero.

        Raises:
            ConfigErrors: The answer does not fit the outputs.
        """
        answer, key = self._next(call.name)
        if len(call.outputs) == 1:
            one = call.outputs[0]
            if not any(misfits(answer, type_of(one.type), self._fields)):
                return {one.name: kept(answer, type_of(one.type), self._fields)}
        if answer is not None and not isinstance(answer, dict):
            expected = "an object: " + (", ".join(f'"{one.name}": {one.type}' for one in call.outputs) or "{}")
            error = ConfigError("this is no answer", file=self._file, key=key, value=shown(answer), expected=expected)
            raise ConfigErrors([error])
        by_name = cast("dict[str, Any]", answer or {})
        errors: list[ConfigError] = []
        outputs = {one.name: self._output(one, call, by_name, key, errors) for one in call.outputs}
        known = {word for one in call.outputs for word in (one.name, one.type)}
        errors += [_stray(f"{key}.{name}", known, self._file) for name in by_name if name not in known]
        if errors:
            raise ConfigErrors(errors)
        return outputs

    def _next(self, service: str) -> tuple[Any, str]:
        answer = self._table.get(service)
        if not isinstance(answer, list):
            return answer, service
        answers: list[Any] = answer
        number = min(self._given.get(service, 0), len(answers) - 1)
        self._given[service] = number + 1
        return answers[number], f"{service}[{number}]"

    def _output(
        self, one: Output, call: ServiceStarted, answer: dict[str, Any], key: str, errors: list[ConfigError]
    ) -> Any:
        type_ = type_of(one.type)
        for name in (one.name, one.type):
            if name not in answer:
                continue
            wrong = list(misfits(answer[name], type_, self._fields, (name,)))
            errors += [ConfigError(str(misfit), file=self._file, key=key) for misfit in wrong]
            return None if wrong else kept(answer[name], type_, self._fields)
        same = next((given.value for given in call.inputs if given.type == one.type), None)
        return zero(type_, self._fields) if same is None else same


def _stray(key: str, known: Iterable[str], file: str) -> ConfigError:
    expected = ", ".join(sorted(known)) or "{}: it gives nothing"
    return ConfigError("the service gives no such output", file=file, key=key, expected=expected)
