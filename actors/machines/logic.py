"""When a machine may run, when it renews its lease, and what it writes. Pure: times come in, decisions go out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Value

VOUCH_S: Final = 4.0
"""A shard sees a lost writer within its lease of 3 s, and looks once a second: what it calls Good for this long has a
living source, although it did not change."""

LOOK_S: Final = 1.0
"""After a lease is taken: how long a safe value that was written just before may take to be read back."""

RENEWALS: Final = 3
"""Renewals in the time of one lease, so that losing one or two does no harm."""

_NS: Final = 1_000_000_000
_GONE: Final = frozenset({q.UNCERTAIN_NO_COMMUNICATION, q.UNCERTAIN_LAST_USABLE})


class Phase(Enum):
    """What a machine does, or waits for."""

    OPERATOR = "operator"
    INPUTS = "inputs"
    LEASE = "lease"
    LOOK = "look"  # reads its outputs back
    RUNNING = "running"


@final
class Grid:
    """Cycle times without drift: whole intervals after the first, on the monotonic clock."""

    def __init__(self, start_ns: int, interval_s: float) -> None:
        self._interval_ns = max(1, round(interval_s * _NS))
        self._due_ns = start_ns

    def take(self, mono_ns: int) -> int:
        """A cycle begins now. Returns how many before it were missed: they are skipped, not made up for."""
        late_ns = max(0, mono_ns - self._due_ns)
        missed = late_ns // self._interval_ns
        self._due_ns += (missed + 1) * self._interval_ns
        return missed

    def delay_s(self, mono_ns: int) -> float:
        """How long until the next cycle."""
        return max(0, self._due_ns - mono_ns) / _NS


@dataclass(slots=True)
class _Watched:
    quality: int = q.BAD_WAITING_FOR_INITIAL_DATA
    good_since_ns: int | None = None  # monotonic
    renewed: bool = False  # a Good sample came in after the start: it is no memory of the shard
    silent: bool = False


@final
class WatchedTags:
    """Which of these tags can be relied on: required inputs, outputs to be read back.

    To start, an input needs a Good sample that is newer than the start: a change, or a value that its shard has
    called Good for `VOUCH_S` since. To go on, it must not be Bad, and its source must not be gone.

    Args:
        tags: Name of the tag by handle.
    """

    def __init__(self, tags: Mapping[int, str]) -> None:
        self._tags = dict(tags)
        self._watched = {handle: _Watched() for handle in tags}

    def see(self, handle: int, quality: int, mono_ns: int, *, snapshot: bool) -> None:
        """A sample came; of a snapshot nobody knows how old it is."""
        watched = self._watched.get(handle)
        if watched is None:
            return
        watched.quality = quality
        if not q.is_good(quality):
            watched.good_since_ns, watched.renewed = None, False
            return
        watched.renewed = watched.renewed or not snapshot
        if watched.good_since_ns is None:
            watched.good_since_ns = mono_ns

    def hear(self, handles: Iterable[int], mono_ns: int, *, silent: bool) -> None:
        """The shard of these handles fell silent, or speaks again: what it said before proves nothing."""
        for handle in handles:
            watched = self._watched.get(handle)
            if watched is not None:
                watched.silent = silent
                watched.renewed = False
                watched.good_since_ns = mono_ns if q.is_good(watched.quality) and not silent else None

    def missing(self, mono_ns: int, *, running: bool) -> list[str]:
        """What keeps the machine from running, in words; empty if nothing does."""
        found = (
            (self._tags[handle], self._lack(watched, mono_ns, running)) for handle, watched in self._watched.items()
        )
        return [f"{tag} {lack}" for tag, lack in found if lack]

    @staticmethod
    def _lack(watched: _Watched, mono_ns: int, running: bool) -> str:
        if watched.silent:
            return "is not heard of: its shard is silent"
        if running:
            gone = q.is_bad(watched.quality) or watched.quality & q.CODE_MASK in _GONE
            return f"is {q.name_of(watched.quality)}" if gone else ""
        if watched.good_since_ns is None:
            return f"is {q.name_of(watched.quality)}"
        vouched = mono_ns - watched.good_since_ns >= VOUCH_S * _NS
        return "" if watched.renewed or vouched else "is not confirmed yet"


@dataclass(slots=True)
class _Holding:
    asked_ns: int | None = None
    until_ns: int = 0
    waiting: bool = False
    problem: str = ""


@final
class Leases:
    """The lease as each owner of outputs keeps it.

    A lease counts from the moment it was asked for, so this side never takes it for live when the owner does not.

    Args:
        owners: Actors that keep the lease, links; none if no output has a device.
        lease_s: How long one renewal lasts.
        interval_s: Time between two cycles.
    """

    def __init__(self, owners: Iterable[str], lease_s: float, interval_s: float) -> None:
        self._holdings = {owner: _Holding() for owner in owners}
        self._lease_ns = round(lease_s * _NS)
        self.renew_s = min(max(interval_s, lease_s / RENEWALS), lease_s)

    @property
    def needed(self) -> bool:
        """Whether there is anything to hold."""
        return bool(self._holdings)

    def due(self, mono_ns: int) -> list[str]:
        """The owners to ask now. A cycle that comes a little early is as good as the one after."""
        early_ns = round(self.renew_s * 0.9 * _NS)
        return [
            owner
            for owner, held in self._holdings.items()
            if not held.waiting and (held.asked_ns is None or mono_ns - held.asked_ns >= early_ns)
        ]

    def asked(self, owner: str, mono_ns: int) -> None:
        """The owner was asked."""
        held = self._holdings[owner]
        held.asked_ns, held.waiting = mono_ns, True

    def granted(self, owner: str) -> None:
        """The owner said yes."""
        held = self._holdings[owner]
        held.waiting, held.problem = False, ""
        held.until_ns = (held.asked_ns or 0) + self._lease_ns

    def failed(self, owner: str, problem: str, *, refused: bool) -> None:
        """The owner said no, or nothing: what it granted before lasts as long as it lasts."""
        held = self._holdings[owner]
        held.waiting, held.problem = False, problem
        if refused:
            held.until_ns = 0

    def lost(self, mono_ns: int) -> list[str]:
        """The owners that do not hold the lease, with the reason."""
        return [
            f"{owner}: {held.problem or 'asked for the lease'}"
            for owner, held in self._holdings.items()
            if held.until_ns <= mono_ns
        ]


@final
class Gate:
    """Whether the machine runs, and if not, what it waits for.

    Args:
        inputs: Its required inputs.
        outputs: The tags of its outputs that stand on devices.
        leases: Its lease.
        wait: What an operator must decide before anything else, in words, or "".
        look_s: How long to look at the outputs after the lease is taken.
    """

    def __init__(
        self, inputs: WatchedTags, outputs: WatchedTags, leases: Leases, *, wait: str = "", look_s: float = LOOK_S
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._leases = leases
        self._look_ns = round(look_s * _NS)
        self._look_until_ns: int | None = None
        self.wait = wait
        self.phase = Phase.OPERATOR if wait else Phase.INPUTS
        self.reason = wait or "waiting for inputs"

    @property
    def renews(self) -> bool:
        """Whether the lease is to be held now."""
        return self.phase in (Phase.LEASE, Phase.LOOK, Phase.RUNNING)

    def step(self, mono_ns: int) -> Phase:
        """Look at everything again."""
        was_running = self.phase is Phase.RUNNING
        if self.wait:
            return self._be(Phase.OPERATOR, self.wait)
        if missing := self._inputs.missing(mono_ns, running=was_running):
            return self._be(Phase.INPUTS, "waiting for inputs: " + "; ".join(missing))
        if lost := self._leases.lost(mono_ns):
            self._look_until_ns = None
            return self._be(Phase.LEASE, "waiting for the lease on outputs: " + "; ".join(lost))
        if self._leases.needed:
            if self._look_until_ns is None:
                self._look_until_ns = mono_ns + self._look_ns
            unread = [] if was_running else self._outputs.missing(mono_ns, running=True)
            if unread or mono_ns < self._look_until_ns:
                return self._be(Phase.LOOK, ": ".join(["reading outputs back", *unread[:1]]))
        return self._be(Phase.RUNNING, "")

    def _be(self, phase: Phase, reason: str) -> Phase:
        self.phase, self.reason = phase, reason
        return phase


@final
class OutputPlan:
    """What was handed over of each output, and so what is to be written.

    An output is written when what the machine assigns changes; never again because somebody else has changed the tag.
    """

    def __init__(self) -> None:
        self._handed: dict[str, Value] = {}
        self._waiting: set[str] = set()

    def align(self, read_back: Mapping[str, Value], forget: Iterable[str] = ()) -> None:
        """The machine starts to run: what its outputs have now counts as handed over.

        Args:
            read_back: The outputs' values in their own units, where they are Good.
            forget: Outputs whose value must not be believed: they are written.
        """
        self._handed = dict(read_back)
        for name in forget:
            self._handed.pop(name, None)

    def due(self, wanted: Mapping[str, Value], forced: Iterable[str] = ()) -> list[tuple[str, Value]]:
        """What is to be handed over now: one write an output at a time."""
        anyway = set(forced)
        return [
            (name, value)
            for name, value in wanted.items()
            if name not in self._waiting
            and (name in anyway or name not in self._handed or not same(value, self._handed[name]))
        ]

    def hand(self, name: str, value: Value, *, waiting: bool = True) -> None:
        """The value was handed over; with `waiting` an answer will come."""
        self._handed[name] = value
        if waiting:
            self._waiting.add(name)

    def answered(self, name: str) -> None:
        """The answer came, whatever it says."""
        self._waiting.discard(name)


def same(one: Value, other: Value) -> bool:
    """Whether two values are one for a device: many keep 32-bit floats, and units convert with a last digit."""
    numbers = [type(value) in (int, float) for value in (one, other)]
    if all(numbers):
        return math.isclose(float(one or 0), float(other or 0), rel_tol=1e-6, abs_tol=1e-9)
    return type(one) is type(other) and one == other
