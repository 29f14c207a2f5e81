"""What one alarm is: its tag, its limit, its delays, and the limit as numbers to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tagwerk.protocols.samples import ValueType

UNKEYED: Final = -1
SYSTEM: Final = "system."
"""Names of alarms that begin so are not free for the plant file."""


class AlarmType(StrEnum):
    """How a value is compared with the limit: strictly beyond it."""

    HIHI = "HIHI"
    HI = "HI"
    LO = "LO"
    LOLO = "LOLO"
    BOOL = "BOOL"


@dataclass(frozen=True, slots=True)
class AlarmDef:
    """An alarm's definition.

    Args:
        name: Its name in the plant file.
        type: How it compares.
        limit: In the tag's unit; of a BOOL alarm the value that raises it.
        tag: The tag's name; "" for a system alarm.
        handle: The tag's handle.
        shard: The tag's shard.
        kind: The type of the tag's values.
        unit: The tag's engineering unit.
        deadband: How far the value must come back, in the tag's unit, at least 0.
        on_delay_ns: How long the value must be beyond before the alarm is raised.
        off_delay_ns: How long it must be back before the alarm is cleared.
        priority: How urgent.
        severity: 1 to 1000.
        latch: Whether it stays until reset.
        area: Part of the plant.
        text: What the operator reads.
        key: Its place in the columns, for life; given by the store.
    """

    name: str
    type: AlarmType
    limit: float | bool
    tag: str = ""
    handle: int = 0
    shard: int = 0
    kind: ValueType = ValueType.FLOAT
    unit: str = ""
    deadband: float = 0.0
    on_delay_ns: int = 0
    off_delay_ns: int = 0
    priority: str = "medium"
    severity: int = 400
    latch: bool = False
    area: str = ""
    text: str = ""
    key: int = UNKEYED

    def comparison(self) -> tuple[float, float, float]:
        """Give (sign, on, off): with x = sign * value, the alarm is beyond from x > on until x <= off.

        Low alarms are high alarms of the negated value; a BOOL alarm compares 0 and 1 with a half.
        """
        if self.type is AlarmType.BOOL:
            return (1.0, 0.5, 0.5) if self.limit else (-1.0, -0.5, -0.5)
        sign = 1.0 if self.type in (AlarmType.HI, AlarmType.HIHI) else -1.0
        on = sign * self.limit
        return sign, on, on - self.deadband
