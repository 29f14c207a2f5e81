"""Orders and their services as the command line shows them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tagwerk.protocols.orders import OrderRow, ServiceRow
from tagwerk.runtime.cli import output, times, values


def row_of(row: OrderRow) -> dict[str, Any]:
    """Give the object that JSON shows for an order."""
    return {
        "id": row.id, "name": row.name, "state": row.state, "priority": row.priority, "by": row.by,
        "started": times.rfc3339(row.started_ns), "ended": times.rfc3339(row.ended_ns), "reason": row.reason,
        "finished": row.finished, "running": row.running, "waiting": row.waiting, "unknown": row.unknown,
    }  # fmt: skip


def service_of(one: ServiceRow) -> dict[str, Any]:
    """Give the object that JSON shows for a service."""
    return {
        "number": one.number, "uuid": one.uuid, "service": one.name, "task": one.task, "attempt": one.attempt,
        "state": one.state, "phase": one.phase, "resource": one.resource, "url": one.url, "why": one.why,
        "started": times.rfc3339(one.started_ns), "queued": times.rfc3339(one.queued_ns),
        "called": times.rfc3339(one.called_ns), "ended": times.rfc3339(one.ended_ns),
        "inputs": [{"name": each.name, "type": each.type, "value": each.value} for each in one.inputs],
        "outputs": one.outputs, "reason": one.reason,
    }  # fmt: skip


def took(row: OrderRow) -> str:
    """Give how long an order took, or has taken so far."""
    return times.shown_duration(((row.ended_ns or time.time_ns()) - row.started_ns) / 1e9)


def lines(row: OrderRow, utc: bool) -> Iterator[tuple[str, str]]:
    """Give what stands above the table of an order's services."""
    yield "order", f"{row.id} ({row.name}), priority {row.priority}, by {row.by or '-'}"
    yield "state", f"{row.state}{': ' + row.reason if row.reason else ''}"
    yield "time", f"{times.shown(row.started_ns, utc)} to {times.shown(row.ended_ns, utc)}, {took(row)}"
    counts = f"{row.finished} finished, {row.running} running, {row.waiting} waiting"
    yield "services", counts + (f", {row.unknown} UNKNOWN" if row.unknown else "")


def table(services: list[ServiceRow], *, why: bool = False) -> None:
    """Write an order's services.

    Args:
        services: Of it.
        why: Whether to say how each resource was chosen.
    """
    head = ["number", "service", "task", "attempt", "state", "phase", "resource", "waited", "took"]
    cells = [
        [str(one.number), one.name, one.task, str(one.attempt), one.state, one.phase or "-",
         one.resource.removeprefix("resource/") or "-", _between(one.started_ns, one.called_ns or one.ended_ns),
         _between(one.called_ns, one.ended_ns), *([one.why] if why else []), one.reason]
        for one in services
    ]  # fmt: skip
    head += ["why there"] if why else []
    output.table([*head, "reason"], cells, right=("number", "attempt", "waited", "took"), less=("phase", "task"))


def _between(from_ns: int, to_ns: int) -> str:
    return f"{max(0, to_ns - from_ns) / 1e9:.3f}s" if from_ns and to_ns else "-"


def tell_doubt(row: OrderRow, one: ServiceRow, utc: bool) -> None:
    """Write what is known of a service in doubt, and what is to be done."""
    output.note(f"service {one.number} {one.name} is UNKNOWN: {values.printable(one.reason)}")
    output.note(f"  called at {times.shown(one.called_ns, utc)} on {one.resource} ({one.url})")
    output.note(f"  look at the machine, then: tagwerk order resolve {row.id} {one.number} done|failed|retry")
