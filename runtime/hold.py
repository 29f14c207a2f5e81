"""A hold: an actor keeps what a backup needs, for a while that the backup renews, and never for longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final

from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.names import NAME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.protocols.plantwide import HoldStill

LEASE_LIMIT_S: Final = 60.0


class Cancels(Protocol):
    """A timer that has not run yet."""

    def cancel(self) -> None:
        """It does not run."""
        ...


@final
class Hold:
    """The hold of one actor; one backup has it at a time.

    Args:
        after: Calls back after so many seconds.
        begin: Called when a hold begins.
        end: Called when it ends, whatever ends it.
    """

    def __init__(
        self,
        after: Callable[[float, Callable[[], None]], Cancels],
        begin: Callable[[], None] = lambda: None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self._after = after
        self._begin = begin
        self._end = end
        self._timer: Cancels | None = None
        self.holder = ""

    @property
    def held(self) -> bool:
        """Whether something is held."""
        return bool(self.holder)

    def answer(self, asked: HoldStill) -> Message:
        """Begin, renew or end the hold."""
        holder = asked.holder[:NAME_LIMIT] or "nobody"
        if self.held and self.holder != holder:
            return Refusal(RefusedCode.CONFLICT, f"another backup is being made, by {self.holder}")
        if asked.renew and not self.held:
            return Refusal(RefusedCode.NOT_ACTIVE, "the hold has ended")
        if not asked.lease_s > 0:
            self.let_go()
            return Done()
        if not self.held:
            self._begin()
            self.holder = holder
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._after(min(asked.lease_s, LEASE_LIMIT_S), self.let_go)
        return Done()

    def let_go(self) -> None:
        """End the hold, if there is one: its time is over, or something matters more. The backup hears of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.held:
            self.holder = ""
            self._end()
