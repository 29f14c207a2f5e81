"""The plant holds still where it matters while its files are copied: holds that are renewed, and proven at the end."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final, Protocol, final

from tagwerk.protocols.errors import Refused, TagwerkError, Unavailable
from tagwerk.protocols.message import Done
from tagwerk.protocols.plantwide import HoldStill

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tagwerk.protocols.message import Message

LEASE_S: Final = 30.0
RENEW_S: Final = 5.0
ANSWER_S: Final = 10.0
KINDS: Final = frozenset({"events", "historian", "cvt"})
"""Who is asked to hold still: all others write what they have in one transaction, and nobody reads it from them."""


class Asks(Protocol):
    """What of a `Plant` is needed."""

    def query(self, actor: str, message: Message, reply: type[Done], timeout_s: float | None = None) -> Done:
        """Ask an actor."""
        ...


class LetGo(Unavailable):
    """An actor did not hold still up to the end: it was restarted, or it had no room."""


class Holds(Protocol):
    """Keeps a plant still."""

    def take(self) -> None:
        """Begin.

        Raises:
            Unavailable: Somebody does not answer.
            Refused: Another backup is being made.
        """
        ...

    def renew(self) -> None:
        """Go on, if it is time.

        Raises:
            LetGo: Somebody did not hold still.
        """
        ...

    def prove(self) -> None:
        """Make sure that all have held still up to now.

        Raises:
            LetGo: Somebody did not.
        """
        ...

    def release(self) -> None:
        """End; who does not hear of it ends by itself soon."""
        ...


@final
class PlantHolds:
    """Holds of a plant that runs.

    Args:
        plant: The plant.
        actors: The names of its actors.
        patience_s: How long to wait for one that is just being restarted, at the beginning.
    """

    def __init__(self, plant: Asks, actors: Iterable[str], patience_s: float = 30.0) -> None:
        self._plant = plant
        # The log of events first: nothing is given back to an outbox that it has fetched from.
        self._actors = sorted(name for name in actors if name.partition("/")[0] in KINDS)
        self._patience_s = patience_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._asked_s = 0.0

    def take(self) -> None:
        """See `Holds.take`."""
        for actor in self._actors:
            self._plant.query(actor, HoldStill(self._holder, LEASE_S), Done, self._patience_s)
        self._asked_s = time.monotonic()

    def renew(self) -> None:
        """See `Holds.renew`."""
        if time.monotonic() - self._asked_s >= RENEW_S:
            self.prove()

    def prove(self) -> None:
        """See `Holds.prove`."""
        for actor in self._actors:
            try:
                self._plant.query(actor, HoldStill(self._holder, LEASE_S, renew=True), Done, ANSWER_S)
            except (Refused, Unavailable) as error:
                raise LetGo(f"{actor}: {error}") from error
        self._asked_s = time.monotonic()

    def release(self) -> None:
        """See `Holds.release`."""
        for actor in self._actors:
            try:
                self._plant.query(actor, HoldStill(self._holder, 0.0), Done, 1.0)
            except TagwerkError:  # it is down, or somebody else's: its hold ends by itself
                continue


@final
class NoHolds:
    """Nobody writes: the plant is down. That it stays down is told by who started meanwhile."""

    def take(self) -> None:
        """See `Holds.take`."""

    def renew(self) -> None:
        """See `Holds.renew`."""

    def prove(self) -> None:
        """See `Holds.prove`."""

    def release(self) -> None:
        """See `Holds.release`."""
