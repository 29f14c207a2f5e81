"""What goes into a run (events), what comes out (commands), and its state between: all of it plain data.

The names are those of the six callbacks between a dispatcher and an execution engine: task started and finished,
service started and finished, provide parameter, fire event.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

import msgspec


class OrderState(StrEnum):
    """How an order stands."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Parameter(msgspec.Struct, frozen=True, array_like=True):
    """A value that goes in or comes out.

    Args:
        name: Of the variable; for a path the whole path, counts put in; "" for a literal.
        type: As in the text, `number[3]`.
        value: Number, text, truth value, list or dict of these.
    """

    name: str
    type: str
    value: Any


class Output(msgspec.Struct, frozen=True, array_like=True):
    """A value that a service is to give: its variable, and its type as in the text."""

    name: str
    type: str


class _Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class FireEvent(_Event, frozen=True):
    """The token: a service has finished. `outputs`: variable -> value, for each output that it was asked for."""

    service_uuid: str
    outputs: dict[str, Any] = {}


class ServiceFailed(_Event, frozen=True):
    """A service has certainly failed, or was stopped after its time. Never sent while its outcome is unknown."""

    service_uuid: str
    reason: str


class ServiceRepeated(_Event, frozen=True):
    """A service is to be executed once more, under a new uuid: somebody has decided so."""

    service_uuid: str
    reason: str


class CancelOrder(_Event, frozen=True):
    """The order is to end now."""

    reason: str


Event: TypeAlias = FireEvent | ServiceFailed | ServiceRepeated | CancelOrder


class _Command(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class TaskStarted(_Command, frozen=True):
    """A task begins. `context_uuid`: the task that called it, itself for the first one. `inputs`: as it names them."""

    task_uuid: str
    name: str
    context_uuid: str
    inputs: tuple[Parameter, ...]


class TaskFinished(_Command, frozen=True):
    """A task has done its last statement. `outputs`: what it set in the task that called it, under that one's names."""

    task_uuid: str
    name: str
    context_uuid: str
    outputs: tuple[Parameter, ...]


class TaskFailed(_Command, frozen=True):
    """A task ends before its last statement."""

    task_uuid: str
    name: str
    context_uuid: str
    reason: str


class ServiceStarted(_Command, frozen=True):
    """A service is to be executed.

    It is answered by one `FireEvent` or `ServiceFailed`. `timeout_s`: after this the engine stops it and sends
    `ServiceFailed`; None: it may take for ever. `attempt` counts from 1.
    """

    service_uuid: str
    name: str
    context_uuid: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    timeout_s: float | None = None
    attempt: int = 1


class ServiceFinished(_Command, frozen=True):
    """A service's token was taken. `outputs`: what it set in the task."""

    service_uuid: str
    name: str
    context_uuid: str
    outputs: tuple[Parameter, ...]


class ServiceEnded(_Command, frozen=True):
    """A service will set nothing: it failed, or nobody needs it any more. `running`: the engine is to stop it."""

    service_uuid: str
    name: str
    context_uuid: str
    reason: str
    running: bool


class OrderEnded(_Command, frozen=True):
    """The last command of a run. `line` and `column` say where the text could not go on, 0 if it is no place."""

    state: OrderState
    reason: str = ""
    line: int = 0
    column: int = 0


Command: TypeAlias = (
    TaskStarted | TaskFinished | TaskFailed | ServiceStarted | ServiceFinished | ServiceEnded | OrderEnded
)


class TaskRun(msgspec.Struct, frozen=True, array_like=True):
    """A task that runs.

    Args:
        name: Which task.
        context_uuid: The task that called it; its own uuid for the first one.
        branch: Which branch of a Parallel it is, from 0.
        at: The instruction that it does.
        counts: The counters of the loops that it is in.
        variables: Name -> value.
        calls: How many it has made: their uuids are made of it.
        waiting: How many tasks that it called still run.
        written: In a Parallel: variable -> the branch that set it. A later branch wins, whenever it ends.
        service_uuid: The service that it waits for, or "".
        attempt: Of that service, from 1.
        served: Whether a service was ever started for it.
    """

    name: str
    context_uuid: str
    branch: int = 0
    at: int = 0
    counts: dict[str, int] = {}
    variables: dict[str, Any] = {}
    calls: int = 0
    waiting: int = 0
    written: dict[str, int] = {}
    service_uuid: str = ""
    attempt: int = 0
    served: bool = False


class RunState(msgspec.Struct, frozen=True, array_like=True):
    """All that a run is, between two events.

    Args:
        order_id: Whose run; uuids are made of it.
        digest: Of the text.
        state: How it stands.
        tasks: Those that run, by uuid; the first one stays after its end.
        services: Those that are waited for: uuid -> uuid of the task.
        reason: Why it failed or was cancelled.
    """

    order_id: str
    digest: str
    state: OrderState = OrderState.RUNNING
    tasks: dict[str, TaskRun] = {}
    services: dict[str, str] = {}
    reason: str = ""


_DECODER: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def pack_command(command: Command) -> bytes:
    """Give the bytes of a command."""
    return msgspec.msgpack.encode(command)


def unpack_command(data: bytes) -> Command:
    """Give the command of its bytes.

    Raises:
        msgspec.DecodeError: They are none.
    """
    return _DECODER.decode(data)
