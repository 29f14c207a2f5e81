"""What can happen to an order in a plant: the records of its log. An order is what these make of it, in their order."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from tagwerk.protocols.orders import Asked, Given


class _Record(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Begun(_Record, frozen=True):
    """Somebody started it. `inputs`: what the first task takes."""

    inputs: dict[str, Any]
    by: str
    host: str = ""
    reason: str = ""


class Assigned(_Record, frozen=True):
    """A resource was found for a service. `fixed`: the order itself names it."""

    service_uuid: str
    resource: str
    url: str
    why: str
    fixed: bool


class Progressed(_Record, frozen=True):
    """A service came so far on its resource. Times: UTC, ns since 1970, 0 if not known."""

    service_uuid: str
    phase: str
    queued_ns: int = 0
    called_ns: int = 0


class Gave(_Record, frozen=True):
    """A service has finished."""

    service_uuid: str
    outputs: dict[str, Any]
    queued_ns: int = 0
    called_ns: int = 0


class Fell(_Record, frozen=True):
    """A service has certainly given nothing. `failure`: one of `Failure`."""

    service_uuid: str
    failure: str
    reason: str
    queued_ns: int = 0
    called_ns: int = 0


class Doubted(_Record, frozen=True):
    """A service was called, and nobody knows what came of it."""

    service_uuid: str
    reason: str
    queued_ns: int = 0
    called_ns: int = 0


class Heard(_Record, frozen=True):
    """The event of a service of which nobody knew came after all: what it gave, or of what `Failure` it is."""

    service_uuid: str
    outputs: dict[str, Any]
    failure: str
    reason: str
    queued_ns: int = 0
    called_ns: int = 0


class Overdue(_Record, frozen=True):
    """A service has not finished within its time."""

    service_uuid: str


class Stopped(_Record, frozen=True):
    """The resource has given back the place of a service that nobody waited for any more."""

    service_uuid: str
    reason: str


class Resolved(_Record, frozen=True):
    """Somebody looked what became of a service: `outcome` is `done`, `failed` or `retry`."""

    service_uuid: str
    outcome: str
    outputs: dict[str, Any]
    by: str
    host: str = ""
    reason: str = ""


class Restored(_Record, frozen=True):
    """The plant was restored from a backup: what was done since that was made is not known."""


class Controlled(_Record, frozen=True):
    """Somebody paused, resumed, cancelled or retried it."""

    action: str
    by: str
    host: str = ""
    reason: str = ""


class TaskTold(_Record, frozen=True):
    """Its dispatcher says that a task has started, or has finished."""

    task_uuid: str
    name: str
    context_uuid: str
    finished: bool
    values: tuple[Given, ...]
    failed: str = ""


class ServiceTold(_Record, frozen=True):
    """Its dispatcher says that a service is to be executed."""

    service_uuid: str
    name: str
    context_uuid: str
    inputs: tuple[Given, ...]
    outputs: tuple[Asked, ...]
    timeout_s: float | None = None


class TokensTaken(_Record, frozen=True):
    """Its dispatcher has all tokens up to this number."""

    upto: int


class TokenAgain(_Record, frozen=True):
    """Its dispatcher asks once more for a service that has ended, and whose token it had let go of."""

    service_uuid: str
    outputs: dict[str, Any]
    failed: str


Record: TypeAlias = (
    Begun
    | Assigned
    | Progressed
    | Gave
    | Fell
    | Doubted
    | Heard
    | Overdue
    | Stopped
    | Resolved
    | Controlled
    | Restored
    | TaskTold
    | ServiceTold
    | TokensTaken
    | TokenAgain
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def pack_record(record: Record) -> bytes:
    """Give the bytes of a record."""
    return _ENCODER.encode(record)


def unpack_record(data: bytes) -> Record:
    """Give the record of its bytes.

    Raises:
        msgspec.DecodeError: They are none.
    """
    return _DECODER.decode(data)


def words_of(record: Record) -> tuple[str, str, str, str]:
    """Give what a record says to people: kind, who, from where, what."""
    kind = type(record).__name__.lower()
    who = (getattr(record, "by", ""), getattr(record, "host", ""))
    what = ""
    match record:
        case Assigned():
            what = f"{record.resource} ({record.url}): {record.why}"
        case Progressed():
            what = record.phase
        case Gave():
            what = _shown(record.outputs)
        case Heard():
            told = f"{record.failure}: {record.reason}" if record.failure else _shown(record.outputs)
            kind, what = "heard after all", f"its event came although it was UNKNOWN: {told or 'done'}"
        case Fell():
            what = f"{record.failure}: {record.reason}"
        case Resolved():
            kind, what = f"resolved {record.outcome}", record.reason
        case Controlled():
            kind, what = record.action, record.reason
        case TaskTold():
            kind, what = "task finished" if record.finished else "task started", record.failed or record.name
        case ServiceTold():
            kind, what = "service asked for", record.name
        case TokensTaken():
            what = f"up to {record.upto}"
        case TokenAgain():
            what = record.failed
        case Begun() | Doubted() | Stopped():
            what = record.reason
        case Overdue():
            what = "its time is over"
    return kind, *who, what


def _shown(outputs: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in outputs.items())
