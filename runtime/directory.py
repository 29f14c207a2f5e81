"""Who is there: what senders must know of an actor, and the gauge page as the one that knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from tagwerk.runtime.states import PeerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.page import Page


class PeerView(msgspec.Struct, frozen=True):
    """How a peer stands: `up` if it may be spoken to."""

    up: bool
    incarnation: int


class Directory(Protocol):
    """Knows who is there. On a host: the gauge pages."""

    def peer(self, name: str) -> PeerView | None:
        """How an actor stands; None if there is none of this name."""
        ...

    def socket(self, name: str, suffix: str) -> str:
        """Where to reach it."""
        ...


class PageDirectory:
    """A `Directory` over a node's gauge page.

    Args:
        page: Mapped.
        socket: Gives the address of an actor's socket by its suffix.
    """

    def __init__(self, page: Page, socket: Callable[[str, str], str]) -> None:
        self._page = page
        self._socket = socket

    def socket(self, name: str, suffix: str) -> str:
        """See `Directory.socket`."""
        return self._socket(name, suffix)

    def peer(self, name: str) -> PeerView | None:
        """See `Directory.peer`."""
        seen = self._page.look(name)
        return None if seen is None else PeerView(seen.state is PeerState.RUNNING, seen.incarnation)
