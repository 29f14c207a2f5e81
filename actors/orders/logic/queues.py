"""The queue of a resource, as its variable shows it; and the names under which our elements stand in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

OURS: Final = "tagwerk"
IDLE: Final = 4
EXECUTING: Final = 5
ASSET_STATES: Final = ("UNKNOWN", "OPERATIONAL", "INITALIZING", "ERROR", "IDLE", "EXECUTING")


class Element(NamedTuple):
    """Who waits, for which service, at which place from 1."""

    client: str
    service_uuid: str
    place: int


class Seen(NamedTuple):
    """How a resource stands.

    Args:
        queue: Its elements, in the order of their places.
        state: Its AssetState; None if it is not known.
        version: Rises with each change that the session hears of.
    """

    queue: tuple[Element, ...]
    state: int | None
    version: int = 0

    def place_of(self, client: str, service_uuid: str) -> int:
        """Give the place of an element, 0 if it is not in the queue."""
        for one in self.queue:
            if (one.client, one.service_uuid) == (client, service_uuid):
                return one.place
        return 0


def elements(value: Any) -> tuple[Element, ...]:
    """Read a queue's variable: null, one empty element (no queue), one element, or an array of them."""
    given: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    found = [
        Element(str(one.get("Client_Identifier") or ""), str(one.get("Service_UUID") or ""), place)
        for one in given
        if isinstance(one, Mapping) and isinstance(place := one.get("Entry_Number"), int) and place > 0
    ]
    return tuple(sorted(found, key=lambda one: one.place))


def state_name(state: int | None) -> str:
    """Give the name of an AssetState."""
    if state is None or not 0 <= state < len(ASSET_STATES):
        return f"AssetState {state}"
    return ASSET_STATES[state]


def client_identifier(plant: str, order: str, number: int) -> str:
    """Name an element after the plant, the order and the service's number in it: after a crash we know what is ours."""
    return f"{OURS}:{plant}:{order}:{number}"


def engine_plant(host: str, pid: int, started: int) -> str:
    """Name an engine that runs without a plant after its process: the next one on this host sees whether it lives."""
    return f"engine-{host.replace(':', '_')}-{pid}-{started}"


def left_behind(queue: Iterable[Element], host: str, lives: Callable[[int, int], bool]) -> list[Element]:
    """Give the elements of engines on this host whose processes are gone.

    Args:
        queue: Of a resource.
        host: This one.
        lives: Tells of a process id and a start time whether that process still lives.
    """
    found: list[Element] = []
    for one in queue:
        parts = one.client.split(":")
        name, _, started = parts[1].rpartition("-") if len(parts) == 4 and parts[0] == OURS else ("", "", "")
        name, _, pid = name.rpartition("-")
        ours = name == f"engine-{host.replace(':', '_')}" and pid.isdigit() and started.isdigit()
        if ours and not lives(int(pid), int(started)):
            found.append(one)
    return found
