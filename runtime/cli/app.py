"""The root of the command line: global options, the table of commands, the one place where errors end."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tagwerk.runtime.cli import failure
from tagwerk.runtime.cli.options import hoisted
from tagwerk.runtime.cli.session import Session, connect

if TYPE_CHECKING:
    from tagwerk.runtime.attach import Plant

PROGRAM: Final = "tagwerk"
COMPLETE_VAR: Final = "_TAGWERK_COMPLETE"

COMMANDS: Final = MappingProxyType(
    {
        **dict.fromkeys(("up", "down"), "launch"),
        **dict.fromkeys(("status", "check", "schema", "version"), "plant"),
        **dict.fromkeys(("tags", "read", "write", "watch", "why"), "tags"),
        "history": "history",
        **dict.fromkeys(("alarms", "ack"), "alarms"),
        "events": "events",
        "machine": "machines",
        "opcua": "opcua",
        "order": "order",
        "engine": "engine",
        **dict.fromkeys(("restart", "revive"), "plant"),
        "deadletters": "events",
        **dict.fromkeys(("backup", "restore"), "backup"),
        "bench": "bench",
        "chaos": "chaos",
    }
)
"""Command -> module of this package. A module is imported when one of its commands is asked for."""


class Commands(TyperGroup):
    """The root group: finds a command in its module."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            for known in COMMANDS:  # so that the caller can suggest what was meant
                self.get_command(ctx, known)
            return None
        if cmd_name not in self.commands:
            module = importlib.import_module(f"tagwerk.runtime.cli.{COMMANDS[cmd_name]}")
            found = typer.main.get_command(module.app)
            if isinstance(found, TyperGroup):
                self.commands.update(found.commands)
            else:
                self.commands[cmd_name] = found
        return self.commands[cmd_name]


app = typer.Typer(
    cls=Commands, name=PROGRAM, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)


def _make_root(connector: Callable[[Session, float], Plant]) -> None:
    @app.callback()
    def root(
        context: typer.Context,
        home: Annotated[
            Path | None, typer.Option(metavar="DIR", help="The plant's home. Default: TAGWERK_HOME, else var.")
        ] = None,
        user: Annotated[str, typer.Option(metavar="NAME", help="In whose name; default: who is logged in.")] = "",
        json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
        utc: Annotated[bool, typer.Option("--utc", help="Times in UTC, not in local time.")] = False,
        timeout: Annotated[
            float | None, typer.Option(metavar="S", min=0.001, help="Seconds to wait for an answer.")
        ] = None,
    ) -> None:
        """Look at a plant, operate it, and start and stop it.

        The options below go before a command or after it.
        """
        context.obj = Session(home, user, json, utc, timeout, connector)


def run(arguments: list[str], connector: Callable[[Session, float], Plant] = connect) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name.
        connector: How to reach the plant.

    Returns:
        The exit code: 0 done; 1 refused, not found, or a promise broke; 2 usage or configuration; 3 plant not up, or
        certainly not done; 4 outcome unknown; 130 Ctrl-C.
    """
    _make_root(connector)
    ordered = hoisted(arguments)
    command = typer.main.get_command(app)
    if os.environ.get(COMPLETE_VAR):
        command(prog_name=PROGRAM, complete_var=COMPLETE_VAR)
    return failure.guarded(functools.partial(_invoke, command, ordered), "--json" in arguments)


def _invoke(command: Any, arguments: list[str]) -> int:
    with command.make_context(PROGRAM, arguments) as context:
        return command.invoke(context) or 0
