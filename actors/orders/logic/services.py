"""A service as its resource declares it: what fits its arguments, what its answer says, what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from tagwerk.actors.orders.logic.pfdl.talk import Output, Parameter

NUMBERS: Final = frozenset(
    ("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
)
TRIGGER: Final = "ServiceTriggerResult"
STATUS: Final = "ServiceExecutionStatus"
EVENT_STATUS: Final = "ServiceExecutionResult"
MESSAGE: Final = "ServiceResultMessage"
CODE: Final = "ServiceResultCode"
INVALID_PARAMETER: Final = 0
FAIL: Final = 1


class Failure(StrEnum):
    """Why a service gave nothing."""

    UNREACHABLE = "unreachable"
    """The resource could not be reached before it was called: certainly not done."""
    REJECTED = "rejected"
    """The resource, or we, refused before it was called: certainly not done."""
    FAILED = "server_status"
    """The resource did it, and says that it failed."""
    BAD_OUTPUT = "bad_output"
    """The resource did it, and what it gave does not fit."""
    UNKNOWN = "unknown"
    """It was called, and nobody knows what came of it."""


class ServiceFault(Exception):  # noqa: N818  of the service, not of ours
    """A service that gave nothing.

    Args:
        failure: Of what kind.
        reason: In words.
    """

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


class Argument(NamedTuple):
    """An argument of a method, a field of a result or a property of an event.

    Args:
        name: Of it.
        type: The name of its type as PFDL has it: a struct's, or `number`, `string`, `boolean`; else OPC UA's.
        array: Whether it is an array of these.
        key: Names the type in the endpoint's own registry.
    """

    name: str
    type: str
    array: bool
    key: str

    @property
    def text(self) -> str:
        """The type as in a program, without an array's length."""
        return f"{self.type}[]" if self.array else self.type


@dataclass(frozen=True, slots=True)
class Service:
    """What a resource says of one of its services.

    Args:
        name: Of it.
        inputs: In the order of the call.
        outputs: Properties of its event, or fields of its result.
        asynchronous: Whether an event tells its end; else the answer of the call does.
    """

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    asynchronous: bool


def pfdl_type(ua_name: str) -> str:
    """Give the name that PFDL has for a type of OPC UA; a struct's name stays."""
    if ua_name in NUMBERS:
        return "number"
    return {"String": "string", "Boolean": "boolean"}.get(ua_name, ua_name)


def _plain(type_: str) -> str:
    name, bracket, _ = type_.partition("[")
    return f"{name}[]" if bracket else name


def _last_name(path: str) -> str:
    """Give the name at the end of a path: `order.parts[0].color` is a `color`."""
    return path.rpartition(".")[2].partition("[")[0]


def matched(service: Service, given: Sequence[Parameter]) -> list[Any]:
    """Give the values for the arguments of a call: by name and type, else the first of the type that is left.

    What no argument takes is left out: steering structs, for example.

    Raises:
        ServiceFault: An argument stays without a value.
    """
    left = list(given)
    values: list[Any] = []
    for argument in service.inputs:
        fitting = [one for one in left if _plain(one.type) == argument.text]
        named = [one for one in fitting if argument.name in (one.name, _last_name(one.name))]
        if not fitting:
            offered = ", ".join(f"{one.name or 'a literal'}: {one.type}" for one in given) or "nothing"
            reason = f"{service.name} wants `{argument.name}`, a {argument.text}; the order gives {offered}"
            raise ServiceFault(Failure.REJECTED, reason)
        chosen = (named or fitting)[0]
        left.remove(chosen)
        values.append(chosen.value)
    return values


def check_trigger(service: str, result: Mapping[str, Any]) -> None:
    """Check what a method of an asynchronous service answered.

    Raises:
        ServiceFault: It did not begin.
    """
    if result.get(TRIGGER) == INVALID_PARAMETER:
        raise ServiceFault(Failure.REJECTED, f"{service} refused its parameters{_told(result)}")


def check_status(service: str, result: Mapping[str, Any], field: str) -> None:
    """Check what a service says of its own end.

    Raises:
        ServiceFault: It failed.
    """
    if result.get(field) == FAIL:
        raise ServiceFault(Failure.FAILED, f"{service} ended with FAIL{_told(result)}")


def _told(result: Mapping[str, Any]) -> str:
    message, code = result.get(MESSAGE), result.get(CODE)
    return f": {message or 'no message'} (code {code})" if message or code else ""


def outputs_of(service: Service, wanted: Iterable[Output], result: Mapping[str, Any]) -> dict[str, Any]:
    """Give the outputs that an order wants, by the order's names.

    By name and type; else, for a struct, the only one of its type that no other output has by name.

    Raises:
        ServiceFault: One is missing.
    """
    asked = tuple(wanted)
    offered = [one for one in service.outputs if result.get(one.name) is not None]
    by_name = {one.name: one for one in offered}
    taken = {one.name for one in asked if one.name in by_name and by_name[one.name].text == _plain(one.type)}
    found: dict[str, Any] = {}
    for one in asked:
        name = one.name
        if name not in taken:
            same = [other.name for other in offered if other.text == _plain(one.type) and other.name not in taken]
            if len(same) != 1 or _plain(one.type) in ("number", "string", "boolean"):
                gave = ", ".join(f"{other.name}: {other.text}" for other in offered) or "nothing"
                reason = f"{service.name} gave no `{one.name}`, a {one.type}; it gave {gave}"
                raise ServiceFault(Failure.BAD_OUTPUT, reason)
            name = same[0]
            taken.add(name)
        found[one.name] = result[name]
    return found


def is_ours(event: Mapping[str, Any], service_uuid: str, task_uuid: str) -> bool:
    """Tell whether an event of the right type ends this very call.

    A resource that names the service or the task must name ours. One that names neither means the call that it is
    executing, and that is ours as long as we stand first in its queue.
    """
    for field, own in (("service_uuid", service_uuid), ("task_uuid", task_uuid)):
        told = event.get(field)
        if told and told != own:
            return False
    return True
