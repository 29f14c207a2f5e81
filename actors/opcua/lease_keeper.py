"""The keeper of output leases: their clock, their file, and the safe values when they lapse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, final

from tagwerk.actors.opcua.lease_store import LeaseStore
from tagwerk.actors.opcua.logic.leases import LeaseTable
from tagwerk.actors.opcua.logic.writes import check_tag
from tagwerk.actors.opcua.outflow import Later
from tagwerk.actors.opcua.writer import Writer
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.samples import Value
from tagwerk.protocols.tags import DropLease, HoldLease, TagDef, WriteNotSent, WriteUnknown
from tagwerk.runtime.clock import Clock

STOOD_STILL_NS: Final = 500_000_000
"""A timer this late means that our own process stood still: nobody's renewal could be heard meanwhile."""


@final
class LeaseKeeper:
    """Holds leases for those who write cyclically, and writes the safe value of each output once when one lapses.

    Args:
        tags: The link's tags, by handle.
        store: Where leases survive this process.
        writer: Writes to the device.
        clock: The monotonic time.
        after: The actor's timer.
        on_due: Called when safe values have become due: somebody has to run `write_due`.
        told: Gets (target, what became of it, reason) for the log of events.
        log: The actor's log.
    """

    def __init__(
        self, tags: Mapping[int, TagDef], store: LeaseStore, writer: Writer, clock: Clock, after: Later,
        on_due: Callable[[], None], told: Callable[[str, str, str], None], log: logging.Logger,
    ) -> None:  # fmt: skip
        self._tags = tags
        self._store = store
        self._writer = writer
        self._clock = clock
        self._after = after
        self._on_due = on_due
        self._told = told
        self._log = log
        self._table = LeaseTable()
        self._armed_ns: int | None = None
        self._writing = asyncio.Lock()

    @property
    def table(self) -> LeaseTable:
        """The leases."""
        return self._table

    def restore(self) -> None:
        """Take over what was kept: every holder gets one lease to be heard again.

        Raises:
            ConfigError: The file cannot be read.
        """
        leases, due = self._store.load()
        known = [lease for lease in leases if all(handle in self._tags for handle in lease.handles)]
        self._table.restore(known, {h: v for h, v in due.items() if h in self._tags}, self._clock.mono_ns())
        if known:
            self._log.warning("%d output leases were live: each has one lease to be renewed", len(known))
        self._arm()

    def hold(self, message: HoldLease) -> Message:
        """Take or renew a lease; what is new is on the disk before this returns."""
        try:
            for handle, safe in zip(message.handles, message.safe, strict=False):
                self._check_output(handle, safe)
            changed = self._table.hold(
                message.lease, message.handles, message.safe, message.lease_s, self._clock.mono_ns()
            )
            if changed:
                self._save_or_refuse(message.lease)
        except Refused as error:
            return Refusal(error.code, error.message, error.tag)
        self._arm()
        return Done()

    def drop(self, message: DropLease) -> Message:
        """End a lease, with its safe values if that is asked for. One that is over already is no error."""
        if self._table.drop(message.lease, write_safe=message.write_safe):
            self._save()
            if self._table.due:
                self._on_due()
        return Done()

    def check_write(self, tag: TagDef, lease: str) -> None:
        """May a write under this lease go to the tag now?

        Raises:
            Refused: See `LeaseTable.check_write`.
        """
        try:
            self._table.check_write(tag.handle, lease, self._clock.mono_ns())
        except Refused as error:
            raise Refused(error.code, error.message, tag.name) from error

    def overwritten(self, handle: int) -> None:
        """Somebody's write to this output was taken: a safe value from before has no business there any more."""
        if handle in self._table.due:
            self._table.written(handle)
            self._save()

    async def write_due(self) -> None:
        """Write the safe values that are due, each until the server has answered it, whatever the answer is."""
        async with self._writing:
            for handle, value in self._table.due.items():
                tag = self._tags[handle]
                if value is None or handle not in self._table.due:
                    continue
                outcome = await self._writer.write(tag, value, 0, lambda: None)
                if isinstance(outcome, WriteNotSent | WriteUnknown):
                    self._log.error("safe value of %s stays due: %s", tag.name, outcome.message)
                    continue
                text = f"refused: {outcome.message}" if isinstance(outcome, Refusal) else str(value)
                self._log.warning("safe value %r of %s: %s", value, tag.name, text)
                self._told(tag.name, text, "safe value of a lease that ended")
                self._table.written(handle)
                self._save()

    def _check_output(self, handle: int, safe: Value) -> None:
        tag = self._tags.get(handle)
        if tag is None:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"this link has no tag with handle {handle}")
        if safe is not None:
            check_tag(tag, safe)
        elif not tag.writable:
            raise Refused(RefusedCode.READ_ONLY, "the tag is not writable", tag.name)

    def _save_or_refuse(self, lease: str) -> None:
        """A lease that would not survive our death must not be promised."""
        try:
            self._store.save(self._table.leases, self._table.due)
        except OSError as error:
            self._table.drop(lease, write_safe=False)
            raise Refused(RefusedCode.NOT_ACTIVE, f"the lease cannot be stored: {error}") from error

    def _save(self) -> None:
        try:
            self._store.save(self._table.leases, self._table.due)
        except OSError:
            # What is kept is older: after our death a lease that is over gets its safe value once more, which is safe.
            self._log.exception("the lease table cannot be stored")

    def _arm(self) -> None:
        next_ns = self._table.next_ns
        if next_ns is None or (self._armed_ns is not None and self._armed_ns <= next_ns):
            return
        self._armed_ns = next_ns
        self._after(max(0.0, (next_ns - self._clock.mono_ns()) / 1e9), self._due)

    def _due(self) -> None:
        now_ns = self._clock.mono_ns()
        armed_ns, self._armed_ns = self._armed_ns, None
        late_ns = now_ns - armed_ns if armed_ns is not None else 0
        if late_ns > STOOD_STILL_NS:
            self._log.warning("this link stood still for %.1f s: leases are extended by it", late_ns / 1e9)
            self._table.extend(late_ns)
        over = self._table.lapse(now_ns)
        for lease in over:
            self._log.error("output lease %s lapsed: safe values are due", lease.name)
            self._told(lease.name, "lapsed", "its holder did not renew its output lease")
        if over:
            self._save()
            self._on_due()
        self._arm()
