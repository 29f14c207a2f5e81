"""What is said to and about machines."""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record
from tagwerk.protocols.samples import Value


class GetMachine(Message, frozen=True):
    """To `machine/NAME`: how it stands. Answered by `MachineState`."""


class MachineVariable(Record, frozen=True):
    """An input, output or parameter: `role` is one of them; `tag` "" if it has none."""

    name: str
    role: str
    tag: str
    unit: str
    value: Value
    quality: int = 0


class MachineState(Message, frozen=True):
    """`state` of its chart, whether it runs its cycle, why not, and what may be sent now."""

    name: str
    class_path: str
    state: str
    running: bool
    reason: str
    events: tuple[str, ...]
    variables: tuple[MachineVariable, ...]
    cycles: int
    interval_s: float
    overruns: int = 0
    lease_s: float = 0.0


class SendEvent(Message, frozen=True):
    """To `machine/NAME`: an operator's event (`confirm`, `abort`). Answered by `MachineState` or `Refusal`."""

    event: str
    by: str
    host: str = ""
    reason: str = ""


class SetParameter(Message, frozen=True):
    """To `machine/NAME`: set a parameter, in its own unit. Answered by `MachineState` or `Refusal`."""

    name: str
    value: float | int | bool | str
    by: str
    host: str = ""
    reason: str = ""
