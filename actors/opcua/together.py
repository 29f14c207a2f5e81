"""Requests of one moment go out as one: what many ask for in one turn of the loop is one message to the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE: Final = 100
"""Most items of one request."""


@final
class Together(Generic[Item, Result]):
    """Gathers items of a kind.

    Args:
        send: Carries a request out; gives what came of each item, in order. What it raises goes to all of them.
        spawn: Runs it as a task of its owner.
        cut: What those hear whose request was ended by its owner.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Coroutine[Any, Any, Sequence[Result | Exception]]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        cut: Callable[[], Exception],
    ) -> None:
        self._send = send
        self._spawn = spawn
        self._cut = cut
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []

    async def do(self, item: Item) -> Result:
        """Carry one item out, with those that are asked for in the same turn. Cancelled before it goes, it does not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._go)
        self._waiting.append((item, future))
        return await future

    def _go(self) -> None:
        waiting, self._waiting = self._waiting, []
        wanted = [pair for pair in waiting if not pair[1].cancelled()]
        for start in range(0, len(wanted), AT_ONCE):
            self._spawn(self._carry(wanted[start : start + AT_ONCE]))

    async def _carry(self, pairs: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        outcomes: Sequence[Result | Exception] = [self._cut() for _ in pairs]
        try:
            outcomes = await self._send([item for item, _ in pairs])
        except Exception as error:  # each of them is told
            outcomes = [error for _ in pairs]
        finally:
            for (_, future), outcome in zip(pairs, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
