"""Orders whose dispatcher is somebody else: another actor or an attached process that speaks the six callbacks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.logic.life import ServiceState
from tagwerk.actors.orders.logic.pfdl.talk import OrderState
from tagwerk.actors.orders.logic.records import Begun, ServiceTold, TaskTold, TokenAgain, TokensTaken
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.message import Done, Message
from tagwerk.protocols.orders import (
    DispatchService,
    DispatchTask,
    GetTokens,
    OpenOrder,
    OrderStarted,
    Provided,
    ProvideParameter,
    Tokens,
)
from tagwerk.runtime.actor import Later

if TYPE_CHECKING:
    from tagwerk.actors.orders.crew import Crew, Live
    from tagwerk.runtime.actor import Sender

TOKENS_LIMIT: Final = 50
"""Tokens in one answer: each has 1 MB at most, an answer 64 MB."""
WAIT_LIMIT_S: Final = 60.0
TASKS_LIMIT: Final = 20_000
SERVICES_LIMIT: Final = 10_000
"""Of one order, at the same time."""


@final
class Dispatchers:
    """Serves them.

    Args:
        crew: Where their orders run.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._listening: dict[str, Later] = {}

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Serve one; None if it is no message of a dispatcher.

        Raises:
            Refused: It is not allowed.
        """
        crew = self._crew
        if isinstance(message, OpenOrder):
            live = crew.open_order(message.name, None, message.priority, message.by)
            crew.record(live.stored.id, Begun({}, message.by or sender.name, message.host, message.reason))
            return OrderStarted(live.stored.id)
        if isinstance(message, DispatchTask):
            live = self._own(message.id)
            if len(live.order.life.scopes) >= TASKS_LIMIT:
                raise Refused(RefusedCode.CONFLICT, f"order {message.id} has {TASKS_LIMIT} tasks already")
            if not message.finished and message.task_uuid in live.order.life.scopes:
                return Done()  # said again: its variables may have changed since
            told = TaskTold(
                message.task_uuid, message.name, message.context_uuid, message.finished, message.values, message.failed
            )
            crew.record(message.id, told)
            return Done()
        if isinstance(message, DispatchService):
            return self._service(message)
        if isinstance(message, ProvideParameter):
            return self._provide(message)
        return self._tokens(message) if isinstance(message, GetTokens) else None

    def wake(self, order_id: str) -> None:
        """Give a dispatcher that waits what there is."""
        later = self._listening.pop(order_id, None)
        if later is not None:
            later.reply(self._answer(order_id))

    def _service(self, message: DispatchService) -> Message:
        life = self._own(message.id).order.life
        known = message.service_uuid in life.services or any(
            one.service_uuid == message.service_uuid for one in life.tokens
        )
        if not known:
            ended = self._crew.ended_service(message.id, message.service_uuid)
            if ended is not None:  # its token was let go of; it is given again, and nothing is executed again
                failed = "" if ended.state == ServiceState.FINISHED else ended.reason or ended.state
                self._crew.record(message.id, TokenAgain(ended.uuid, ended.outputs, failed))
                return Done()
            if len(life.services) >= SERVICES_LIMIT:
                raise Refused(RefusedCode.CONFLICT, f"order {message.id} has {SERVICES_LIMIT} services already")
            told = ServiceTold(
                message.service_uuid, message.name, message.context_uuid, message.inputs, message.outputs,
                message.timeout_s,
            )  # fmt: skip
            self._crew.record(message.id, told)
        return Done()

    def _provide(self, message: ProvideParameter) -> Message:
        life = self._crew.running(message.id).order.life
        found = life.scopes.get(message.task_uuid, {}).get(message.variable)
        if found is None:
            what = f"task {message.task_uuid} has no value of `{message.variable}`"
            raise Refused(RefusedCode.UNKNOWN_TAG, what)
        return Provided(found)

    def _tokens(self, message: GetTokens) -> Message | Later:
        live = self._crew.live.get(message.id)
        if live is None:
            return Tokens((), self._crew.state_of(message.id))
        life = live.order.life
        if any(one.number <= message.after for one in life.tokens):
            self._crew.record(message.id, TokensTaken(message.after))
        wait_s = min(max(0.0, message.wait_s), WAIT_LIMIT_S)
        if life.tokens or life.state != OrderState.RUNNING or not wait_s:
            return self._answer(message.id)
        self.wake(message.id)  # one dispatcher an order: who asked before gets nothing more
        later = self._listening[message.id] = Later()
        self._crew.after(wait_s, partial(self._waited, message.id, later))
        return later

    def _waited(self, order_id: str, later: Later) -> None:
        if self._listening.get(order_id) is later:
            self.wake(order_id)

    def _answer(self, order_id: str) -> Tokens:
        live = self._crew.live.get(order_id)
        if live is None:
            return Tokens((), self._crew.state_of(order_id))
        return Tokens(tuple(live.order.life.tokens[:TOKENS_LIMIT]), live.order.life.shown)

    def _own(self, order_id: str) -> Live:
        """Give an order of another dispatcher that runs."""
        live = self._crew.running(order_id)
        if live.stored.text is not None:
            raise Refused(RefusedCode.NOT_OWNER, f"order {order_id} has a program, which says what is to be done")
        if live.order.life.state != OrderState.RUNNING:
            raise Refused(RefusedCode.CONFLICT, f"order {order_id} has ended: {live.order.life.state}")
        return live
