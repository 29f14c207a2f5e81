"""What the machines of the workshop can do: their services, and what these make of what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from model import Fields

ORDER: Fields = (("order", "SWAP_Order"),)
COLOUR: Fields = (("colour", "Colour"),)
COAT: Fields = (("coat", "Coat"),)
ROUGHNESS: Fields = (("roughness", "Double"),)
DRIED = 8.0
FULL = 255.0

Work = Callable[[dict[str, Any]], Mapping[str, Any]]


def echo(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Give back what was given."""
    return inputs


@dataclass(frozen=True)
class Service:
    """One service of a machine.

    Args:
        name: As orders call it.
        inputs: Name and type of its arguments.
        outputs: Name and type of what it gives.
        work: Inputs in, outputs out; it is done when the service is called.
        synchronous: Its method answers when all is done; else an event tells the end.
        tells_uuid: Whether its event says which service it was: the first element of the queue knows. The template
            in C does not.
    """

    name: str
    inputs: Fields = ORDER
    outputs: Fields = ORDER
    work: Work = echo
    synchronous: bool = False
    tells_uuid: bool = False

    async def over(self, outputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Wait until it is done, beyond the delay of the machine: a service that is more than simulated does it here.

        Args:
            outputs: What `work` gave.

        Returns:
            What it gives in the end; None if it failed.
        """
        return outputs


@dataclass(frozen=True)
class Kind:
    """One kind of machine.

    Args:
        services: What it can do.
        capabilities: Name -> relation and value; a registry compares them with what an order asks for.
    """

    services: Sequence[Service]
    capabilities: Mapping[str, tuple[str, Any]] = field(default_factory=dict[str, tuple[str, Any]])


def named_parts(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Give every part a number of its own."""
    order = inputs["order"]
    order.stand.stand_id = f"stand-{order.order_id:g}"
    for number, segment in enumerate(order.segments or [], 1):
        segment.segment_id = f"light-{order.order_id:g}-{number}"
    return {"order": order}


def mixed(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Keep every part of a colour within what a nozzle can do."""
    colour = inputs["colour"]
    colour.rgb = [ua.Double(min(max(part, 0.0), FULL)) for part in colour.rgb or []]
    return {"colour": colour}


def dried(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Take some wetness out of a coat."""
    coat = inputs["coat"]
    coat.wetness = ua.Double(max(0.0, coat.wetness - DRIED))
    return {"coat": coat}


def smoother(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Take off the roughest."""
    return {"roughness": ua.Double(inputs["roughness"] - 1)}


def inspected(inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Look whether each light that was ordered is there, and has a colour."""
    order = inputs["order"]
    segments = order.segments or []
    remarks = [f"{one.segment_id} has no colour" for one in segments if not one.color]
    if len(segments) < order.number_light_segments:
        remarks.append(f"{len(segments)} lights instead of {order.number_light_segments:g}")
    return {"found": ua.Inspection(not remarks, remarks, ua.Double(len(segments)))}


MILLING = (Service("Milling"), Service("Polish", ROUGHNESS, ROUGHNESS, smoother, tells_uuid=True))
KINDS: Mapping[str, Kind] = {
    "warehouse": Kind([Service("GetPartsFromWarehouse", work=named_parts), Service("Store", outputs=())]),
    "coating": Kind([
        Service("Coating"), Service("MixColour", COLOUR, COLOUR, mixed), Service("Dry", COAT, COAT, dried),
    ]),
    "gluing": Kind([Service("Gluing")]),
    "milling": Kind(MILLING, {"diameter": ("SmallerOrEqual", 100.0)}),
    "mounting": Kind([
        Service("Mounting"), Service("Inspect", ORDER, (("found", "Inspection"),), inspected, synchronous=True),
    ]),
    "oldMilling": Kind(MILLING, {"diameter": ("SmallerOrEqual", 50.0)}),
}  # fmt: skip
