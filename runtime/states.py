"""The states of an actor as outsiders see them, and the one table that says how the node moves between them."""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final

from tagwerk.protocols.errors import LocalProtocolError


class PeerState(StrEnum):
    """What an actor is doing. The names are part of the interface, their order that of the gauge page's codes."""

    UNKNOWN = "UNKNOWN"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    BACKOFF = "BACKOFF"
    HUNG = "HUNG"
    FATAL = "FATAL"


STATES: Final = tuple(PeerState)
CODES: Final = MappingProxyType({state: code for code, state in enumerate(STATES)})


def state_of(code: int) -> PeerState:
    """Give the state of a code in a gauge page; what no version has written there is UNKNOWN."""
    return STATES[code] if code < len(STATES) else PeerState.UNKNOWN


class Event(Enum):
    """What happens to a supervised process."""

    FORKED = auto()
    READY = auto()
    OVERDUE = auto()  # no beat for too long: its group is killed, and its end follows
    STOP = auto()  # somebody wants it stopped
    ENDED = auto()  # the process is gone, and may be tried again
    GAVE_UP = auto()  # the process is gone, once too often


_S = PeerState
NEXT: Final = MappingProxyType(
    {
        (_S.STOPPED, Event.FORKED): _S.STARTING,
        (_S.BACKOFF, Event.FORKED): _S.STARTING,
        (_S.FATAL, Event.FORKED): _S.STARTING,
        (_S.STARTING, Event.READY): _S.RUNNING,
        (_S.STARTING, Event.OVERDUE): _S.HUNG,
        (_S.RUNNING, Event.OVERDUE): _S.HUNG,
        (_S.STARTING, Event.STOP): _S.STOPPING,
        (_S.RUNNING, Event.STOP): _S.STOPPING,
        (_S.HUNG, Event.STOP): _S.STOPPING,
        (_S.BACKOFF, Event.STOP): _S.STOPPED,
        (_S.FATAL, Event.STOP): _S.STOPPED,
        (_S.STARTING, Event.ENDED): _S.BACKOFF,
        (_S.RUNNING, Event.ENDED): _S.BACKOFF,
        (_S.HUNG, Event.ENDED): _S.BACKOFF,
        (_S.STOPPING, Event.ENDED): _S.STOPPED,
        (_S.STARTING, Event.GAVE_UP): _S.FATAL,
        (_S.RUNNING, Event.GAVE_UP): _S.FATAL,
        (_S.HUNG, Event.GAVE_UP): _S.FATAL,
    }
)

ALIVE: Final = frozenset({_S.STARTING, _S.RUNNING, _S.STOPPING, _S.HUNG})


def step(state: PeerState, event: Event) -> PeerState:
    """Give the state that follows `state` after `event`.

    Raises:
        LocalProtocolError: The event cannot happen in this state.
    """
    following = NEXT.get((state, event))
    if following is None:
        raise LocalProtocolError(f"{event.name} cannot happen to an actor that is {state}")
    return following


def seen_state(node_state: PeerState, actor_state: PeerState, same_process: bool) -> PeerState:
    """Combine what the node wrote of an actor with what the actor wrote of itself.

    The actor is believed only about itself: ready (before the node has looked) or on its way out.

    Args:
        node_state: The state in the node's half of the slot.
        actor_state: The state in the actor's half.
        same_process: Both halves speak of one process, so the actor's half is not its predecessor's.
    """
    if same_process and (
        (node_state is _S.STARTING and actor_state is _S.RUNNING)
        or (node_state in (_S.STARTING, _S.RUNNING) and actor_state is _S.STOPPING)
    ):
        return actor_state
    return node_state
