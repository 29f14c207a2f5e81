"""What all commands share: the global options, and the way to the plant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from tagwerk.runtime.attach import Plant
    from tagwerk.runtime.home import Home

TIMEOUT_S: Final = 5.0
"""How long a command waits for an answer, unless `--timeout` says otherwise."""


def connect(session: Session, timeout_s: float) -> Plant:
    """Attach to the plant that runs in the session's home.

    Raises:
        Unavailable: None runs there.
    """
    from tagwerk.runtime.attach import attach

    return attach(home=session.home.root, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call.

    Args:
        home_path: `--home`; None: `TAGWERK_HOME`, else `var`.
        user: `--user`: in whose name; "": who is logged in.
        json: `--json`.
        utc: `--utc`.
        timeout_s: `--timeout`; None: what fits the command.
        connector: Makes the connection; tests give another.
    """

    home_path: Path | None = None
    user: str = ""
    json: bool = False
    utc: bool = False
    timeout_s: float | None = None
    connector: Callable[[Session, float], Plant] = connect

    @property
    def home(self) -> Home:
        """Where the plant lives."""
        from tagwerk.runtime.home import Home

        return Home(self.home_path) if self.home_path is not None else Home.default()

    def patience_s(self, usual_s: float) -> float:
        """How long to wait: what the user said, or what is usual for the command."""
        return usual_s if self.timeout_s is None else self.timeout_s

    def plant(self, usual_s: float = TIMEOUT_S) -> Plant:
        """Attach to the plant; the result is a context manager.

        Raises:
            Unavailable: None runs in this home.
        """
        plant = self.connector(self, self.patience_s(usual_s))
        if self.user:
            plant.user = self.user
        return plant

    def actors(self) -> tuple[str, ...]:
        """Give the names of the plant's actors, read from its gauge page; the node and external programs are left out.

        Raises:
            Unavailable: No plant runs in this home.
        """
        from tagwerk.runtime.page import Page

        page = Page.open(self.home.file("node/main", "page"))
        try:
            return tuple(name for name in page.names() if not name.startswith(("node/", "external/")))
        finally:
            page.close()


def session_of(context: typer.Context) -> Session:
    """Give the session that the root of the command line has made."""
    session = context.find_root().obj
    assert isinstance(session, Session), "the root makes it before any command runs"
    return session
