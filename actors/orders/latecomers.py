"""Calls whose end nobody knows, or nobody waited for any more: an event that names one of them tells it after all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

from tagwerk.actors.orders.logic.calls import Job
from tagwerk.actors.orders.logic.services import (
    EVENT_STATUS,
    Service,
    ServiceFault,
    check_status,
    is_ours,
    outputs_of,
)

Outcome: TypeAlias = dict[str, Any] | ServiceFault
_log = logging.getLogger(__name__)


@final
class Latecomers:
    """Those of one resource.

    Args:
        url: Of it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._expected: dict[str, tuple[Job, Callable[[Outcome], None]]] = {}

    @property
    def services(self) -> frozenset[str]:
        """The services whose events are of interest."""
        return frozenset(job.service for job, _ in self._expected.values())

    def expect(self, job: Job, then: Callable[[Outcome], None]) -> None:
        """Wait for the end of a call.

        Args:
            job: What was called.
            then: Hears of its end, once.
        """
        self._expected[job.service_uuid] = (job, then)

    def forget(self, service_uuid: str) -> None:
        """It is of no interest any more."""
        self._expected.pop(service_uuid, None)

    def hear(self, service: Service, event: Mapping[str, Any]) -> None:
        """Take an event. One that names no service could be anybody's, and is nobody's here."""
        job, then = self._expected.get(str(event.get("service_uuid")), (None, None))
        if job is None or then is None or job.service != service.name:
            return
        if not is_ours(event, job.service_uuid, job.task_uuid):
            return
        self.forget(job.service_uuid)
        _log.warning("%s: the end of %s came after all", self._url, job.service)
        try:
            check_status(job.service, event, EVENT_STATUS)
            outcome: Outcome = outputs_of(service, job.outputs, event)
        except ServiceFault as fault:
            outcome = fault
        then(outcome)
