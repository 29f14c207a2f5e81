"""Which resource executes a service: what the order says of it, and what the engine was told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tagwerk.actors.orders.logic.pfdl.talk import Parameter

NO_FILTER: Final = "None"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a service may be executed. "" is: not said.

    Args:
        resource: This very one.
        registry: Ask this device registry for those that can do it.
        agent: Let this assignment agent choose among them.
        capabilities: Names and values that they must have.
    """

    resource: str = ""
    registry: str = ""
    agent: str = ""
    capabilities: tuple[tuple[str, str], ...] = field(default=())

    def filter(self) -> tuple[list[str], list[str]]:
        """Give names and values as a registry wants them."""
        names = [name for name, _ in self.capabilities] or [NO_FILTER]
        return names, [value for _, value in self.capabilities] or [NO_FILTER]


def wanted(service: str, inputs: Iterable[Parameter], registry: str = "", agent: str = "") -> Wanted:
    """Read the steering structs among a service's inputs. What they say goes before what the engine was told.

    Args:
        service: Its name.
        inputs: Its inputs.
        registry: The engine's own device registry.
        agent: The engine's own assignment agent.
    """
    said: dict[str, str] = {}
    capabilities: tuple[tuple[str, str], ...] = ()
    for one in inputs:
        if not isinstance(one.value, dict) or not one.value:
            continue
        if one.type in ("ResourceAssignment", "AssignmentAgent", "DeviceRegistry"):
            said[one.type] = str(next(iter(one.value.values())))
        elif one.type == f"{service}_Capabilities":
            capabilities = tuple((name, _text(value)) for name, value in one.value.items())
    return Wanted(
        said.get("ResourceAssignment", ""),
        said.get("DeviceRegistry") or registry,
        said.get("AssignmentAgent") or agent,
        capabilities,
    )


def _text(value: Any) -> str:
    """Write a capability as registries read it: `90.0`, `False`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(float(value)) if number else str(value)


def least_loaded(agents: Sequence[tuple[str, int]]) -> str:
    """Give the URL with the shortest queue; the first one of several."""
    return min(agents, key=lambda one: one[1])[0]


def with_prefix(url: str, prefix: str) -> str:
    """Rewrite a URL that was assigned: the prefix, and the port. "" leaves it as it is."""
    return prefix + url.rpartition(":")[2] if prefix else url


def with_scheme(url: str) -> str:
    """Give a URL its scheme, if it was written as `host:port`."""
    return url if "://" in url else f"opc.tcp://{url}"


def without_scheme(url: str) -> str:
    """Give `host:port`, as registries and agents hand it round."""
    return url.removeprefix("opc.tcp://").rstrip("/")
