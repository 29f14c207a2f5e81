"""Which actors a plant has, and which of them must be ready before which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

# Kinds whose actors must all be ready before one of this kind starts. Every shard asks plant/0 for its definitions;
# alarms and historian read the shards' journals; a link publishes into the shards; a machine reads what links bring.
KIND_NEEDS: Final = MappingProxyType(
    {
        "plant": (),
        "events": ("plant",),
        "cvt": ("plant",),
        "historian": ("cvt",),
        "alarms": ("cvt",),
        "external": (),
        "opcua": ("cvt",),
        "machine": ("cvt", "opcua"),
        "resource": ("cvt",),
        "assigner": ("resource",),
        "order": ("cvt", "resource", "assigner"),
        "observer": ("order",),
    }
)


def actor_names(
    shards: int, externals: Iterable[str], links: Iterable[str], machines: Iterable[str], orders: Iterable[str] = ()
) -> tuple[str, ...]:
    """Give the names of all actors of a plant, in the order in which they start if nothing else is needed."""
    return (
        "plant/0",
        "events/0",
        *(f"cvt/{shard}" for shard in range(shards)),
        "historian/0",
        "alarms/0",
        *(f"external/{name}" for name in externals),
        *(f"opcua/{name}" for name in links),
        *(f"machine/{name}" for name in machines),
        *orders,
    )


def all_needs(names: tuple[str, ...], extra: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Give for each actor those that must be ready before it: by its kind, and by the `needs` of the node."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        by_kind.setdefault(name.partition("/")[0], []).append(name)
    return {
        name: tuple(
            dict.fromkeys(
                [
                    *(need for kind in KIND_NEEDS[name.partition("/")[0]] for need in by_kind.get(kind, ())),
                    *(need for need in extra.get(name, ()) if need in names),
                ]
            )
        )
        for name in names
    }


def start_order(needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Give the actors so that each comes after what it needs, and else as they came; those in a circle come last."""
    order: dict[str, None] = {}
    waiting = list(needs)
    while ready := next((name for name in waiting if all(need in order for need in needs[name])), None):
        order[ready] = None
        waiting.remove(ready)
    return (*order, *waiting)


def circles(
    needs: Mapping[str, tuple[str, ...]], extra: Mapping[str, Iterable[str]]
) -> Iterator[tuple[str, list[str]]]:
    """Give each actor and circle (`a`, `b`, ..., `a`) that one of its extra needs closes."""
    for name, wanted in extra.items():
        for need in wanted:
            if name in needs and need in needs and (path := _path(needs, need, name)):
                yield name, [name, *path]


def _path(needs: Mapping[str, tuple[str, ...]], start: str, end: str) -> list[str] | None:
    came_from: dict[str, str] = {start: ""}
    line = [start]
    for name in line:
        if name == end:
            path = [name]
            while name := came_from[name]:
                path.append(name)
            return path[::-1]
        for need in needs[name]:
            if need not in came_from:
                came_from[need] = name
                line.append(need)
    return None
