"""Output leases: who may write an output, until when, and what is due when nobody renews.

A lease is live until its time is up. Then each of its safe values is *due*, and stays so until the server has answered
the write of it: a link that is down at that moment, or dies, writes it as the first act of its next session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.samples import Value

LEASE_LIMIT: Final = 1_000  # live leases of one link
LEASE_LONGEST_S: Final = 3_600.0
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Lease:
    """One holder's outputs.

    Args:
        name: As the holder calls it.
        handles: The tags.
        safe: What each gets when the lease lapses; None: it keeps its value.
        lease_s: How long one renewal lasts.
        until_ns: When it lapses, monotonic ns.
    """

    name: str
    handles: tuple[int, ...]
    safe: tuple[Value, ...]
    lease_s: float
    until_ns: int


@final
class LeaseTable:
    """All leases of one link, and the safe values that are due.

    Every method takes the monotonic time; a lease whose time is up is not live, whether `lapse` was called or not.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._due: dict[int, Value] = {}

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Those that have not lapsed."""
        return tuple(self._leases.values())

    @property
    def due(self) -> dict[int, Value]:
        """Safe values that have to be written, by handle. A copy."""
        return dict(self._due)

    @property
    def next_ns(self) -> int | None:
        """When the next lease lapses, monotonic ns; None if there is no lease."""
        return min((lease.until_ns for lease in self._leases.values()), default=None)

    def hold(self, name: str, handles: Sequence[int], safe: Sequence[Value], lease_s: float, now_ns: int) -> bool:
        """Take a lease, or renew it.

        Returns:
            Whether the table changed in more than a time: then it has to be stored.

        Raises:
            Refused: `Conflict` if another live lease holds one of the tags; `BadValue` if the request is nonsense.
        """
        if not name or len(safe) != len(handles) or not handles or len(set(handles)) != len(handles):
            raise Refused(RefusedCode.BAD_VALUE, "a lease has a name and one safe value for each of its outputs")
        if not 0 < lease_s <= LEASE_LONGEST_S:
            raise Refused(RefusedCode.BAD_VALUE, f"a lease of {lease_s} s; it is over 0 and at most {LEASE_LONGEST_S}")
        for handle in handles:
            holder = self.holder(handle, now_ns)
            if holder is not None and holder != name:
                raise Refused(RefusedCode.CONFLICT, f"lease {holder!r} holds this output")
        before = self._leases.get(name)
        if before is None and len(self._leases) >= LEASE_LIMIT:
            raise Refused(RefusedCode.CONFLICT, f"this link keeps {LEASE_LIMIT} leases already")
        until_ns = now_ns + round(lease_s * _NS)
        lease = Lease(name, tuple(handles), tuple(safe), lease_s, until_ns)
        if before is not None and before.until_ns <= now_ns:
            self._let_go(before)  # it was over before this renewal came
            before = None
        self._leases[name] = lease
        return before is None or replace(before, until_ns=until_ns) != lease

    def drop(self, name: str, *, write_safe: bool) -> bool:
        """The holder is done. Returns whether there was such a lease."""
        lease = self._leases.pop(name, None)
        if lease is not None and write_safe:
            self._let_go(lease)
        return lease is not None

    def lapse(self, now_ns: int) -> tuple[Lease, ...]:
        """End every lease whose time is up; their safe values are due."""
        over = tuple(lease for lease in self._leases.values() if lease.until_ns <= now_ns)
        for lease in over:
            del self._leases[lease.name]
            self._let_go(lease)
        return over

    def extend(self, by_ns: int) -> None:
        """The link itself stood still: no holder could renew, so each gets that time on top."""
        self._leases = {
            name: replace(lease, until_ns=lease.until_ns + by_ns) for name, lease in self._leases.items()
        }  # fmt: skip

    def holder(self, handle: int, now_ns: int) -> str | None:
        """The live lease that holds this tag."""
        for lease in self._leases.values():
            if handle in lease.handles and lease.until_ns > now_ns:
                return lease.name
        return None

    def check_write(self, handle: int, lease: str, now_ns: int) -> None:
        """May a write under `lease` ("" is none) go to this tag now?

        Raises:
            Refused: `Conflict` if another one's live lease holds it; `Expired` if the lease named is over.
        """
        holder = self.holder(handle, now_ns)
        if holder is not None and holder != lease:
            raise Refused(RefusedCode.CONFLICT, f"lease {holder!r} holds this output")
        if lease and holder is None:
            raise Refused(RefusedCode.EXPIRED, f"lease {lease!r} does not hold this output (any more)")

    def written(self, handle: int) -> None:
        """The server has answered the write of a safe value: it is not due any more."""
        self._due.pop(handle, None)

    def restore(self, leases: Sequence[Lease], due: dict[int, Value], now_ns: int) -> None:
        """Take over what the link knew before it died: each holder gets one lease to renew."""
        self._leases = {
            lease.name: replace(lease, until_ns=now_ns + round(lease.lease_s * _NS)) for lease in leases
        }  # fmt: skip
        self._due = dict(due)

    def _let_go(self, lease: Lease) -> None:
        for handle, value in zip(lease.handles, lease.safe, strict=True):
            if value is not None:
                self._due[handle] = value
