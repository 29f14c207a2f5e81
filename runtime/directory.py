"""Who is there: what senders must know of an actor, as its node's gauge page has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.page import Page, Peer


@final
class Directory:
    """Knows who is there.

    Args:
        page: The node's, mapped.
        socket: Gives the address of an actor's socket by its suffix.
    """

    def __init__(self, page: Page, socket: Callable[[str, str], str]) -> None:
        self._page = page
        self.socket = socket

    def peer(self, name: str) -> Peer | None:
        """How an actor stands; None if there is none of this name."""
        return self._page.look(name)
