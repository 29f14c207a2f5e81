"""Commands and leases: what was asked for, what the device did, and whether the one allows the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = "urn:tagwerk:chaos"
BEAT: Final = "beat"
COMMAND: Final = "command"
PULSE: Final = "pulse"
MACHINE: Final = "machine/chaos"
LEASE_S: Final = 2.0
"""The lease on the pulse."""
SAFE: Final = -1.0
"""What the link writes to the pulse when the lease lapses."""
LATE_S: Final = 0.5
"""A command may reach the device so long after its deadline: it was sent before, and the machine is busy."""
FIRED_S: Final = 1.5
"""The safe value may come so long after the lease has lapsed."""
ALIVE_S: Final = 1.0
"""A machine whose last pulse is older did not run when it was struck: it owes nothing."""
SECOND_NS: Final = 1_000_000_000

TAKEN: Final = "taken"
REFUSED: Final = "refused"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"
UNTOLD: Final = ""
"""The one who asked was killed before it was told."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One write that the device carried out. `at_ns`: the host's monotonic clock."""

    at_ns: int
    node: str
    value: float

    def line(self) -> bytes:
        """Give the line of the log."""
        return f"{self.at_ns} {self.node} {self.value!r}\n".encode()


def read_executions(text: bytes) -> list[Execution]:
    """Read a device's log. A last line that is not whole was never answered: it does not count."""
    rows = (line.split() for line in text[: text.rfind(b"\n") + 1].decode().splitlines())
    return [Execution(int(at_ns), node, float(value)) for at_ns, node, value in rows]


@dataclass(frozen=True, slots=True)
class Command:
    """One write of a number that no other command has.

    Args:
        number: It.
        deadline_ns: After it the write must not be carried out; monotonic.
        outcome: What the sender was told.
    """

    number: int
    deadline_ns: int
    outcome: str


def read_commands(text: bytes) -> list[Command]:
    """Read what the sender wrote down: `A NUMBER DEADLINE` before it asks, `R NUMBER OUTCOME` when it was told."""
    deadlines: dict[int, int] = {}
    outcomes: dict[int, str] = {}
    for line in text[: text.rfind(b"\n") + 1].decode().splitlines():
        kind, number, words = line.split(" ", 2)
        if kind == "A":
            deadlines[int(number)] = int(words)
        else:
            outcomes[int(number)] = words
    return [Command(number, deadline, outcomes.get(number, UNTOLD)) for number, deadline in deadlines.items()]


@dataclass(frozen=True, slots=True)
class Blow:
    """A strike as it came: who was down or stood still, from when until it served again. Monotonic."""

    name: str
    target: str
    start_ns: int
    until_ns: int

    def touches(self, start_ns: int, end_ns: int) -> bool:
        """Tell whether it overlaps a stretch of time."""
        return self.start_ns <= end_ns and start_ns <= self.until_ns


def wrong_commands(
    commands: Iterable[Command], executions: Iterable[Execution], blows: Sequence[Blow]
) -> tuple[str, ...]:
    """Give, in words, each command that was carried out twice, late, or against what its sender was told.

    Args:
        commands: What was asked for.
        executions: What the device did.
        blows: A device that stood still finds in its socket what was sent in time: nobody can take that back.
    """
    done: dict[int, list[int]] = {}
    for one in executions:
        if one.node == COMMAND:
            done.setdefault(int(one.value), []).append(one.at_ns)
    wrong: list[str] = []
    for command in commands:
        times = done.pop(command.number, [])
        told = f"command {command.number}, of which its sender was told {command.outcome or 'nothing'},"
        if len(times) > 1:
            wrong.append(f"{told} was carried out {len(times)} times")
        elif times and command.outcome in (REFUSED, NOT_SENT):
            wrong.append(f"{told} was carried out")
        elif not times and command.outcome == TAKEN:
            wrong.append(f"{told} was not carried out")
        late_s = (times[0] - command.deadline_ns) / SECOND_NS if times else 0.0
        stood_still = any(
            blow.name == "plc" and blow.touches(command.deadline_ns - 2 * SECOND_NS, times[0])
            for blow in blows
            if times
        )
        if late_s > LATE_S and not stood_still:
            wrong.append(f"{told} was carried out {late_s:.3f} s after its deadline")
    wrong.extend(f"command {number} was carried out, and nobody asked for it" for number in done)
    return tuple(wrong)


@dataclass(frozen=True, slots=True)
class LeaseFindings:
    """What the leases owed when the machine was struck.

    Args:
        due: The machine ran, and was gone for longer than its lease.
        fired: The safe value came in time.
        later: It came after the link, the device or their supervision were back from blows of their own.
        missed: In words.
    """

    due: int
    fired: int
    later: int
    missed: tuple[str, ...]


_ON_THE_WAY: Final = frozenset({"opcua", "plc", "node", "supervisord", "plant"})
"""Struck at the same time they excuse a safe value that comes later."""


def check_leases(executions: Sequence[Execution], blows: Sequence[Blow]) -> LeaseFindings:
    """Compare the machine's blows with the safe values that the device got: after a restart it waits long enough.

    Args:
        executions: What the device did, in order.
        blows: All of the run.
    """
    pulses = [one for one in executions if one.node == PULSE]
    limit_ns = round((LEASE_S + FIRED_S) * SECOND_NS)
    fired = later = 0
    missed: list[str] = []
    owed = [blow for blow in blows if blow.target == MACHINE]
    for blow in owed:
        before = [one for one in pulses if one.at_ns <= blow.start_ns]
        after = [one for one in pulses if one.at_ns > blow.start_ns]
        ran = before and before[-1].value != SAFE and blow.start_ns - before[-1].at_ns < ALIVE_S * SECOND_NS
        back = after and after[0].value != SAFE and after[0].at_ns - blow.start_ns < LEASE_S * SECOND_NS
        if not ran or back:  # a freeze that was shorter than the lease
            continue
        if after and after[0].value == SAFE and after[0].at_ns - blow.start_ns <= limit_ns:
            fired += 1
        elif any(one.name in _ON_THE_WAY and one.touches(blow.start_ns, blow.start_ns + limit_ns) for one in blows):
            later += 1
        else:
            came = (
                f"{(after[0].at_ns - blow.start_ns) / SECOND_NS:.2f} s later {after[0].value:g} came"
                if after
                else "nothing came"
            )
            missed.append(f"{MACHINE} was gone, its pulse was {before[-1].value:g}, and {came}")
    return LeaseFindings(fired + later + len(missed), fired, later, tuple(missed))
