"""The engine's own OPC UA server: its tasks and their variables, to be looked at.

A view of the run and never its source: nobody reads it back, and it may lag.
"""

from __future__ import annotations

from typing import final

from tagwerk.actors.orders.logic.pfdl import Program
from tagwerk.actors.orders.logic.pfdl.talk import Command
from tagwerk.actors.orders.view_server import ViewServer
from tagwerk.actors.orders.view_tree import OrderTree
from tagwerk.actors.orders.view_types import TYPES_LIMIT
from tagwerk.protocols.errors import Refused, RefusedCode


@final
class View:
    """The server of one engine.

    Args:
        url: Where it listens.
        program: The order's: its structs become types.
    """

    def __init__(self, url: str, program: Program) -> None:
        self._server = ViewServer(url)
        self._program = program

    async def start(self) -> None:
        """Build it and listen.

        Raises:
            OSError: It cannot listen there.
            Refused: The program has more structs than can be shown.
        """
        await self._server.build()
        types = await self._server.types.take(self._program.fields)
        if types is None:
            raise Refused(RefusedCode.CONFLICT, f"the program has more than {TYPES_LIMIT} structs")
        self._tree = OrderTree(self._server, types)
        await self._server.listen()

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def take(self, command: Command) -> None:
        """Show what happened."""
        await self._tree.take(command)
