"""What is said about alarms."""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record
from tagwerk.protocols.samples import Value


class AlarmRow(Record, frozen=True):
    """An alarm's definition and state. Times in ns since 1970, UTC; None where there is none.

    `occurrence` is "" while there never was one. `letter` is the ISA-18.2 state letter.
    """

    name: str
    tag: str
    type: str
    limit: float | bool | None
    unit: str
    priority: str
    severity: int
    active: bool
    acked: bool
    latched: bool
    shelved: bool
    suppressed: bool
    out_of_service: bool
    enabled: bool
    letter: str
    occurrence: str
    raised_ns: int | None
    cleared_ns: int | None
    acked_by: str
    value: Value
    quality: int
    area: str = ""
    text: str = ""
    acked_ns: int | None = None
    comment: str = ""


class GetAlarms(Message, frozen=True):
    """To `alarms/0`. `only_open`: those not in the normal state. Answered by `AlarmList`."""

    only_open: bool = False
    names: tuple[str, ...] = ()


class AlarmList(Message, frozen=True):
    """One row an alarm, in the order of the plant file."""

    alarms: tuple[AlarmRow, ...]


class GetOccurrences(Message, frozen=True):
    """To `alarms/0`: the newest past and present occurrences that match. Answered by `OccurrenceList`.

    `name` of an alarm, or a glob; "" for all. `start_ns <= raised < end_ns`. `open`: those that are not cleared;
    `unacked`: those that nobody has acknowledged. To page back, ask again with `beyond` = (`raised_ns`, `name`,
    `occurrence`) of the first one; with `oldest_first` the first ones are given, and `beyond` is the last one.
    """

    name: str = ""
    limit: int = 100
    start_ns: int | None = None
    end_ns: int | None = None
    open: bool = False
    unacked: bool = False
    beyond: tuple[int, str, str] | None = None
    oldest_first: bool = False


class Occurrence(Record, frozen=True):
    """One excursion of one alarm. Times in ns since 1970, UTC."""

    occurrence: str
    name: str
    raised_ns: int
    cleared_ns: int | None
    acked_ns: int | None
    acked_by: str
    comment: str
    value: Value
    late: bool = False


class OccurrenceList(Message, frozen=True):
    """Occurrences, oldest first."""

    occurrences: tuple[Occurrence, ...]


class AckAlarm(Message, frozen=True):
    """To `alarms/0`: an operator has seen it. `occurrence` "" means the present one.

    Answered by `AlarmAcked` or `Refusal` (UnknownTag: no such alarm; NotActive: nothing to acknowledge; Conflict:
    another occurrence by now).
    """

    name: str
    by: str
    host: str = ""
    occurrence: str = ""
    comment: str = ""


class AlarmAcked(Message, frozen=True):
    """The alarm after the acknowledgement."""

    alarm: AlarmRow


class ResetAlarm(Message, frozen=True):
    """To `alarms/0`: an operator ends the latching of an alarm that is cleared and acknowledged.

    Answered by `AlarmReset` or `Refusal` (UnknownTag: no such alarm; NotActive: it is not latched; Conflict: it is
    still active, or not acknowledged yet).
    """

    name: str
    by: str
    host: str = ""
    comment: str = ""


class AlarmReset(Message, frozen=True):
    """The alarm after the reset."""

    alarm: AlarmRow
