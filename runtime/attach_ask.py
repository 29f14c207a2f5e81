"""Questions and commands of a script: blocking, and each ends by its time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

from tagwerk.protocols.errors import NotSent, PeerDown, TagwerkError, Timeout, Unavailable, Unknown
from tagwerk.protocols.message import Message
from tagwerk.runtime.attach_engine import Engine, fail, result_of, settle

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tagwerk.runtime.control import Outcome

R = TypeVar("R", bound=Message)

ASK_AGAIN_S: Final = 0.002
"""A question to an actor that is being restarted is asked again so soon."""
TOO_SHORT_S: Final = 0.02
"""With less time left it is not asked again."""


@final
class Asker:
    """Asks actors for a script.

    Args:
        engine: The client's thread.
        timeout_s: How long an answer may take if nothing else is said.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self.timeout_s = timeout_s

    def ask(self, actor: str, message: Message, timeout_s: float | None = None) -> Message:
        """Ask once: for commands.

        Raises:
            Refused: A clear no.
            NotSent: Certainly not done.
            Unknown: It was handed over, and no answer came.
        """
        try:
            return self._ask(actor, message, timeout_s, again=False)
        except (Timeout, PeerDown) as error:
            raise Unknown(str(error)) from error

    def query(self, actor: str, message: Message, reply: type[R], timeout_s: float | None = None) -> R:
        """Ask a question, again if the actor is just being restarted.

        Raises:
            Refused: A clear no.
            Unavailable: No answer within the time.
        """
        answer = self._ask(actor, message, timeout_s, again=True)
        if not isinstance(answer, reply):
            msg = f"{actor} answered {type(answer).__name__} to {type(message).__name__}"
            raise Unavailable(msg)
        return answer

    def _ask(self, actor: str, message: Message, timeout_s: float | None, *, again: bool) -> Message:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return result_of(self._ask_future(actor, message, limit_s, again=again), limit_s)

    def _ask_future(self, actor: str, message: Message, limit_s: float, *, again: bool) -> Future[Message]:
        engine = self._engine
        until = time.monotonic() + limit_s

        def work(future: Future[Message]) -> None:
            def answered(outcome: Outcome) -> None:
                left_s = until - time.monotonic()
                if isinstance(outcome, TagwerkError):
                    lost = isinstance(outcome, (NotSent, PeerDown))
                    if again and lost and left_s > TOO_SHORT_S and engine.directory.peer(actor) is not None:
                        engine.reactor.after(ASK_AGAIN_S, partial(work, future))
                    elif again and isinstance(outcome, NotSent):
                        fail(future, Unavailable(str(outcome)))
                    else:
                        fail(future, outcome)
                else:
                    settle(future, outcome)

            engine.peers.ask(actor, message, answered, max(0.001, until - time.monotonic()))

        return engine.call(work)
