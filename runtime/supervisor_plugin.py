"""The actors in `supervisorctl`: `actors`, and `actor restart|stop|start|revive NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol, final

from supervisor.supervisorctl import ControllerPluginBase  # pyright: ignore[reportMissingImports]

from tagwerk.protocols.errors import TagwerkError
from tagwerk.runtime.home import Home
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.status import status_rows

VERBS: Final = ("restart", "stop", "start", "revive")
LSB_OK: Final = 0
LSB_FAILED: Final = 1
LSB_USAGE: Final = 2


class Options(Protocol):
    """What `supervisorctl` has read."""

    here: str  # the folder of its configuration


class Controller(Protocol):
    """What `supervisorctl` lends to its plugins."""

    exitstatus: int
    options: Options

    def output(self, message: str) -> None:
        """Print a line."""
        ...


@final
class ActorsPlugin(ControllerPluginBase):  # type: ignore[misc]
    """The two commands.

    Args:
        controller: `supervisorctl` itself.
        home: The plant's home.
    """

    name = "tagwerk"

    def __init__(self, controller: Controller, home: Home) -> None:
        super().__init__(controller)
        self._controller = controller
        self._home = home

    def do_actors(self, _arg: str) -> None:
        """Show all actors of the node, in supervisorctl's own form."""
        try:
            rows = status_rows(self._home, sample_s=0.0)
        except TagwerkError as error:
            self._finish(LSB_FAILED, f"ERROR ({error})")
            return
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            pid = f"pid {row['pid']}, uptime {row['uptime_s'] or 0:.0f} s" if row["pid"] else ""
            said = ", ".join(part for part in (pid, row["reason"]) if part)
            self._controller.output(f"{row['name']:<{width}}   {row['state']:<9} {said}".rstrip())

    def do_actor(self, arg: str) -> None:
        """Restart, stop, start or revive one actor."""
        words = arg.split()
        if len(words) != 2 or words[0] not in VERBS:
            self._finish(LSB_USAGE, f"Error: actor takes one of {' '.join(VERBS)} and a name")
            return
        try:
            reply = NodeCtl(self._home).call(words[0], words[1])
        except TagwerkError as error:
            self._finish(LSB_FAILED, f"{words[1]}: ERROR ({error})")
            return
        self._finish(LSB_OK if reply.ok else LSB_FAILED, reply.message)

    def help_actors(self) -> None:
        """Print the help of `actors`."""
        self._controller.output("actors\t\t\tShow all actors of the node")

    def help_actor(self) -> None:
        """Print the help of `actor`."""
        for verb in VERBS:
            self._controller.output(f"actor {verb} <name>\t{verb.capitalize()} one actor, as in actor {verb} cvt/0")

    def _finish(self, status: int, text: str) -> None:
        self._controller.output(text)
        if status != LSB_OK:
            self._controller.exitstatus = status


def make_plugin(controller: Controller, home: str) -> ActorsPlugin:
    """Make the plugin.

    Args:
        controller: `supervisorctl` itself.
        home: As in `[ctlplugin:tagwerk]`: absolute, or relative to the configuration's folder.
    """
    return ActorsPlugin(controller, Home(Path(controller.options.here) / home))
