"""What an order in a plant is at one moment: plain data, so that a snapshot of it can be stored."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

import msgspec

from tagwerk.actors.orders.logic.pfdl.talk import Command, OrderState, RunState
from tagwerk.protocols.orders import Asked, Given, Token


class ServiceState(StrEnum):
    """How a service of an order stands."""

    WAITING = "WAITING"
    """It has no resource yet."""
    SENT = "SENT"
    """It has a resource, which waits for its turn or executes it."""
    UNKNOWN = "UNKNOWN"
    """It was called, and nobody knows what came of it: somebody has to look."""
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ServiceRun(msgspec.Struct, array_like=True):
    """A service of an order, from its start to its end.

    Args:
        number: In its order, from 1.
        task: The name of the task that asked for it.
        since_ns: When its time began, UTC, ns since 1970.
        fixed: The order itself names its resource.
        avoid: Resources that failed at it before; the last choice.
        exclude: Resources that could not be reached for it.
        phase: How far it came on its resource; "" before that one has taken it.
        orphan: Its order does not wait for it any more.
    """

    number: int
    uuid: str
    name: str
    task_uuid: str
    task: str
    attempt: int
    inputs: tuple[Given, ...]
    outputs: tuple[Asked, ...]
    timeout_s: float | None
    started_ns: int
    since_ns: int
    state: str = ServiceState.WAITING
    resource: str = ""
    url: str = ""
    why: str = ""
    fixed: bool = False
    avoid: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    phase: str = ""
    queued_ns: int = 0
    called_ns: int = 0
    ended_ns: int = 0
    given: dict[str, Any] = {}
    reason: str = ""
    orphan: bool = False


class ToldTask(NamedTuple):
    """A task of an order with another dispatcher. `served`: whether a service was ever started for it."""

    name: str
    context_uuid: str
    served: bool = False


class Life(msgspec.Struct, array_like=True):
    """All that an order is.

    Args:
        run: The run of its program; None if another dispatcher says what is to be done.
        before: The run before the failure that ended it: from here it can be tried again.
        scopes: Of an order with another dispatcher: task -> variable -> value.
        root: Of such an order: its first task.
        told: Of such an order: its tasks, by uuid.
        tokens: Of such an order: those that were not taken yet.
        token_number: The last one's.
        services: Those that have not ended, by uuid.
        stopping: Those whose places are being given back: uuid -> resource.
        avoid: Task -> resources that failed at the service that it repeats.
        count: Services so far.
        finished: Those that finished.
    """

    run: RunState | None = None
    before: RunState | None = None
    scopes: dict[str, dict[str, Given]] = {}
    root: str = ""
    tokens: list[Token] = []
    token_number: int = 0
    services: dict[str, ServiceRun] = {}
    stopping: dict[str, str] = {}
    avoid: dict[str, tuple[str, ...]] = {}
    count: int = 0
    finished: int = 0
    paused: bool = False
    state: str = OrderState.RUNNING
    reason: str = ""
    line: int = 0
    column: int = 0
    told: dict[str, ToldTask] = {}

    @property
    def shown(self) -> str:
        """Its state as people see it: `RUNNING PAUSED UNKNOWN FINISHED FAILED CANCELLED`."""
        if self.state != OrderState.RUNNING:
            return self.state
        if self.unknown:
            return ServiceState.UNKNOWN
        return "PAUSED" if self.paused else self.state

    @property
    def unknown(self) -> int:
        """How many services there are of which nobody knows."""
        return sum(one.state == ServiceState.UNKNOWN for one in self.services.values())

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done for it."""
        return self.state != OrderState.RUNNING and not self.services and not self.stopping


class Assign(NamedTuple):
    """Find a resource for a service."""

    service: ServiceRun


class Execute(NamedTuple):
    """Hand a service to its resource. It is known there already if this is done a second time."""

    service: ServiceRun


class Stop(NamedTuple):
    """Have a resource give back the place of a service."""

    service_uuid: str
    resource: str


class Wake(NamedTuple):
    """There is something for the order's dispatcher."""


Effect: TypeAlias = Assign | Execute | Stop | Wake


class Change(NamedTuple):
    """What a record made of an order.

    Args:
        effects: What is to be done once it is stored.
        touched: The services that look different.
        commands: What its dispatcher said.
    """

    effects: list[Effect]
    touched: list[ServiceRun]
    commands: list[Command]


_DECODER: msgspec.msgpack.Decoder[Life] = msgspec.msgpack.Decoder(Life)


def pack_life(life: Life) -> bytes:
    """Give the bytes of a snapshot."""
    return msgspec.msgpack.encode(life)


def unpack_life(data: bytes) -> Life:
    """Give the snapshot of its bytes.

    Raises:
        msgspec.DecodeError: They are none.
    """
    return _DECODER.decode(data)
