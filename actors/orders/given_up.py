"""Calls whose place was given up before their end was known: until it is, the machine may still move."""

from __future__ import annotations

from typing import Any, final

from tagwerk.actors.orders.call_store import CallStore
from tagwerk.actors.orders.latecomers import Latecomers
from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.services import ServiceFault


@final
class GivenUp:
    """Those of one resource.

    Args:
        store: Keeps that an end is known after all.
        late: Hears of their ends.
    """

    def __init__(self, store: CallStore, late: Latecomers) -> None:
        self._store = store
        self._late = late
        self._why: dict[str, str] = {}

    @property
    def why(self) -> str:
        """Why the machine may still move, the newest call first; "" if it does not, as far as is known."""
        return next(reversed(self._why.values()), "")

    def add(self, job: Job, reason: str) -> None:
        """The place of a call was given up.

        Args:
            job: What was called.
            reason: In words.
        """
        self._why[job.service_uuid] = f"{job.service} of {job.product} was called, and {reason}"

        def ended(_outcome: dict[str, Any] | ServiceFault) -> None:
            self._why.pop(job.service_uuid, None)
            self._store.known(job.service_uuid)

        self._late.expect(job, ended)

    def clear(self) -> None:
        """The machine has done something else to its end: what was before that moves no more."""
        for uuid in self._why:
            self._late.forget(uuid)
        self._why.clear()
