"""Who is there, as a gauge page tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tagwerk.runtime.control import PeerView
from tagwerk.runtime.states import PeerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.page import Page


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
