"""tagwerk: an actor runtime for plants: tags, alarms, history, machines and OPC UA links as processes.

This is the public face. A script takes part with `attach`; a state machine of a plant is a `Machine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tagwerk.protocols.errors import (
    ConfigError,
    DeviceGone,
    MailboxFull,
    NotJournaled,
    NotSent,
    PeerDown,
    Refused,
    TagwerkError,
    Timeout,
    Unavailable,
    Unknown,
    WindowFull,
)

if TYPE_CHECKING:
    from tagwerk.actors.machines import Input, Machine, Output, Parameter
    from tagwerk.protocols.samples import Samples, TagValue
    from tagwerk.runtime.attach import Plant, attach
    from tagwerk.runtime.attach_async import AsyncPlant, attach_async

__version__ = "0.1.0"

__all__ = [
    "AsyncPlant",
    "ConfigError",
    "DeviceGone",
    "Input",
    "Machine",
    "MailboxFull",
    "NotJournaled",
    "NotSent",
    "Output",
    "Parameter",
    "PeerDown",
    "Plant",
    "Refused",
    "Samples",
    "TagValue",
    "TagwerkError",
    "Timeout",
    "Unavailable",
    "Unknown",
    "WindowFull",
    "attach",
    "attach_async",
]

# Imported when first used: the command line asks for the version without numpy, a machine needs no client.
_LAZY = {
    "AsyncPlant": "tagwerk.runtime.attach_async",
    "Input": "tagwerk.actors.machines",
    "Machine": "tagwerk.actors.machines",
    "Output": "tagwerk.actors.machines",
    "Parameter": "tagwerk.actors.machines",
    "Plant": "tagwerk.runtime.attach",
    "Samples": "tagwerk.protocols.samples",
    "TagValue": "tagwerk.protocols.samples",
    "attach": "tagwerk.runtime.attach",
    "attach_async": "tagwerk.runtime.attach_async",
}


def __getattr__(name: str) -> Any:
    """Import what is offered, when it is first used."""
    module = _LAZY.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(module), name)
