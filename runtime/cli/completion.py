"""Names for the shell's completion, from the plant that runs; silent when none does."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from tagwerk.protocols.errors import TagwerkError
from tagwerk.runtime.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT_S: Final = 0.5
LIMIT: Final = 500  # names offered at once


def tag_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of tags."""
    return _offered(context, incomplete, _tags)


def alarm_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of alarms."""
    return _offered(context, incomplete, _alarms)


def actor_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of actors and external programs."""
    return _offered(context, incomplete, process_names)


def machine_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of machines."""
    return _offered(context, incomplete, _machines)


def order_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the ids of orders."""
    return _offered(context, incomplete, _orders)


def _orders(session: Session) -> Iterable[str]:
    from tagwerk.protocols.orders import CREW, GetOrders, OrderRows

    with session.plant(TIMEOUT_S) as plant:
        return [one.id for one in plant.query(CREW, GetOrders(LIMIT), OrderRows).orders]


def _tags(session: Session) -> Iterable[str]:
    with session.plant(TIMEOUT_S) as plant:
        return [tag.name for tag in plant.definitions()]


def _alarms(session: Session) -> Iterable[str]:
    with session.plant(TIMEOUT_S) as plant:
        return [alarm.name for alarm in plant.alarms()]


def process_names(session: Session) -> list[str]:
    """Give the names of all processes of the plant but its node.

    Raises:
        Unavailable: No plant runs.
    """
    from tagwerk.runtime.page import Page

    page = Page.open(session.home.file("node/main", "page"))
    try:
        return [name for name in page.names() if not name.startswith("node/")]
    finally:
        page.close()


def _machines(session: Session) -> Iterable[str]:
    return [name.partition("/")[2] for name in session.actors() if name.startswith("machine/")]


def _offered(context: typer.Context, incomplete: str, names: Callable[[Session], Iterable[str]]) -> list[str]:
    root = context.find_root().params
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")  # bash; zsh and fish
    home = root.get("home") or home_in(typed)
    try:
        found = names(Session(home_path=Path(home) if home else None))
    except (TagwerkError, OSError):  # a shell that waits for the next letter must not see words about it
        return []
    return [name for name in found if name.startswith(incomplete)][:LIMIT]


def home_in(line: str) -> str:
    """Find `--home DIR` in a line that is still being typed, "" without it."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is still open
        words = line.split()
    for place, word in enumerate(words):
        if word.startswith("--home="):
            return word.removeprefix("--home=")
        if word == "--home" and place + 1 < len(words):
            return words[place + 1]
    return ""
