"""A dispatcher of another kind: `pfdl-scheduler`, in a process of its own that speaks the six callbacks with `order/0`.

The order holds its text and inputs (as a task beside the first one) and, in its log, all that was said. So a process
that takes over runs the scheduler anew over the tokens that there were, in their order: what it says then was said
already and is not said again, and no service is executed twice. If it says something else than what was said, the
order fails with that as its reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, final
from uuid import NAMESPACE_URL, uuid5

from tagwerk.actors.orders.stock_scheduler import ROOT_ID, VERSION, StockScheduler
from tagwerk.protocols.errors import (
    ConfigError,
    LocalProtocolError,
    NotSent,
    Refused,
    RefusedCode,
    Unavailable,
    Unknown,
)
from tagwerk.protocols.message import Done, Message
from tagwerk.protocols.orders import (
    CREW,
    Asked,
    DispatchService,
    DispatchTask,
    GetOrder,
    GetOrderLog,
    GetTokens,
    Given,
    OpenOrder,
    OrderDetail,
    OrderLog,
    OrderRow,
    OrderStarted,
    Provided,
    ProvideParameter,
    ServiceRow,
    Token,
    Tokens,
)

if TYPE_CHECKING:
    from tagwerk.runtime.attach import Plant

R = TypeVar("R", bound=Message)
WAIT_S: Final = 10.0
"""So long `order/0` keeps a question for tokens."""
ANSWER_S: Final = 15.0
PATIENCE_S: Final = 120.0
"""So long an `order/0` that does not answer is asked again: it may be being restarted."""
AGAIN_S: Final = 0.1
PAGE: Final = 1_000
PROGRAM: Final = f"pfdl-scheduler {VERSION}"
"""The task that holds text and inputs."""
GOES_ON: Final = ("RUNNING", "PAUSED", "UNKNOWN")
ENDS: Final = ("gave", "fell", "heard after all", "overdue", "resolved done", "resolved failed", "resolved retry")
"""What the log says of a service's end; the last one counts."""


def begin(plant: Plant, scheduler: StockScheduler, name: str, text: str, priority: int, reason: str) -> str:
    """Open an order that holds all that it needs to be gone on with; give its id. It has not begun yet."""
    answer = plant.ask(CREW, OpenOrder(name, priority, plant.user, plant.host, reason))
    if not isinstance(answer, OrderStarted):
        raise Unavailable(f"{CREW} answered {type(answer).__name__}")
    talk = Talk(plant, answer.id)
    values = scheduler.root_values
    root, inputs = talk.uuid("task", ROOT_ID), json.dumps({one.name: one.value for one in values})
    talk.say(DispatchTask(answer.id, root, "productionTask", root, False, values))
    kept = (Given("name", "string", name), Given("text", "string", text), Given("inputs", "string", inputs))
    talk.say(DispatchTask(answer.id, talk.uuid("program", ""), PROGRAM, root, False, kept))
    return answer.id


def scheduler_of(plant: Plant, order_id: str) -> StockScheduler:
    """Give a scheduler with the text and the inputs of an order that was begun here.

    Raises:
        ConfigError: It was not, or it has ended.
    """
    talk = Talk(plant, order_id)
    task = talk.uuid("program", "")
    try:
        name, text, inputs = (
            talk.ask(ProvideParameter(order_id, one, task), Provided).value.value for one in ("name", "text", "inputs")
        )
    except Refused as refused:
        message = f"this is no order that pfdl-scheduler can go on with: {refused.message}"
        raise ConfigError(message, value=order_id, expected="one that `tagwerk order dispatch` has begun") from refused
    scheduler = StockScheduler(text, name)
    scheduler.take(json.loads(inputs))
    return scheduler


@final
class Talk:
    """What is said to `order/0` about one order: each message until it is answered, for each may be said again."""

    def __init__(self, plant: Plant, order_id: str) -> None:
        self._plant = plant
        self.order_id = order_id
        self._run = f"{order_id}:{self.row().started_ns}"

    def uuid(self, kind: str, number: str) -> str:
        """Give the uuid of what the scheduler numbers: the same for every process that goes on with this order."""
        return str(uuid5(NAMESPACE_URL, f"tagwerk:{self._run}:{kind}:{number}"))

    def ask(self, message: Message, reply: type[R]) -> R:
        """Ask until there is an answer.

        Raises:
            Refused: The answer is no.
            Unavailable: There is none.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._plant.query(CREW, message, reply, ANSWER_S)
            except (Unavailable, NotSent, Unknown) as error:
                if time.monotonic() > until:
                    raise Unavailable(f"{CREW} does not answer: {error}") from error
                time.sleep(AGAIN_S)

    def say(self, message: DispatchTask | DispatchService) -> None:
        """Say it; it is stored when this returns."""
        self.ask(message, Done)

    def row(self) -> OrderRow:
        """Give how the order stands."""
        return self.ask(GetOrder(self.order_id, 0, 1), OrderDetail).row

    def services(self) -> Iterator[ServiceRow]:
        """Give the services that were asked for."""
        after, more = 0, True
        while more:
            page = self.ask(GetOrder(self.order_id, after, PAGE), OrderDetail)
            yield from page.services
            after, more = page.services[-1].number if page.services else after, page.more

    def log(self) -> OrderLog:
        """Give the whole log."""
        page = self.ask(GetOrderLog(self.order_id, 0, PAGE), OrderLog)
        entries = list(page.entries)
        while page.more:
            page = self.ask(GetOrderLog(self.order_id, entries[-1].seq, PAGE), OrderLog)
            entries += page.entries
        return OrderLog(tuple(entries), False)


@final
class StockDispatcher:
    """Runs one order by `pfdl-scheduler`; see the module.

    Args:
        plant: That runs it.
        order_id: Of the order.
        scheduler: With its text and its inputs.
        tell: Hears of each service that is asked for, and of its end.
    """

    def __init__(self, plant: Plant, order_id: str, scheduler: StockScheduler, tell: Callable[[str], None]) -> None:
        self._talk = Talk(plant, order_id)
        self._order = order_id
        self._scheduler = scheduler
        self._tell = tell
        self._ids: dict[str, str] = {}
        """Service uuid -> what the scheduler calls it."""
        self._names: dict[str, str] = {}
        self._asked = {one.uuid: one for one in self._talk.services()}
        self._tasks = set[tuple[str, str]]()
        self._failed = ""
        ends: dict[int, int] = {}
        for entry in self._talk.log().entries:
            if entry.kind.startswith("task "):
                self._tasks.add((entry.kind, entry.uuid))
            elif entry.kind in ENDS:
                ends[entry.service] = entry.seq
        ended = [one for one in self._asked.values() if one.state in ("FINISHED", "FAILED")]
        self._ended = sorted(ended, key=lambda one: ends.get(one.number, 0))

    def run(self) -> OrderRow:
        """Run the order to its end, from where it is; give how it ended.

        Raises:
            Unavailable: The plant does not answer any more. The order stands, and can be gone on with.
        """
        try:
            self._scheduler.start(self)
            before = {one.uuid for one in self._ended}
            for one in self._ended:
                self._take(Token(0, one.uuid, one.outputs, "" if one.state == "FINISHED" else one.reason or one.state))
            after = 0
            while self._scheduler.running:
                found = self._talk.ask(GetTokens(self._order, after, WAIT_S), Tokens)
                for token in found.tokens:
                    after = token.number
                    if token.service_uuid not in before:
                        before.add(token.service_uuid)
                        self._take(token)
                if not found.tokens and found.state not in GOES_ON:
                    break
        except Refused as refused:
            self._fail(refused.message)
        except LocalProtocolError as error:
            self._fail(str(error))
        return self._talk.row()

    def _take(self, token: Token) -> None:
        if not self._scheduler.running:
            return
        if token.service_uuid not in self._ids:
            raise LocalProtocolError(f"there is a token for {token.service_uuid}, which was not asked for this time")
        name = self._names[token.service_uuid]
        if token.failed:
            raise Refused(RefusedCode.BAD_VALUE, f"{name}: {token.failed}")
        self._tell(f"{name} finished")
        self._scheduler.finish(self._ids[token.service_uuid], token.outputs)

    def _fail(self, reason: str) -> None:
        """The scheduler knows no failure: the order ends here."""
        if self._talk.row().state in GOES_ON:
            root = self._talk.uuid("task", ROOT_ID)
            self._talk.say(DispatchTask(self._order, root, "productionTask", root, True, (), reason))

    # --- what the scheduler says ---

    def task_started(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        """See `Hearer`."""
        self._task(task_id, name, context_id, values, finished=False)

    def task_finished(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        """See `Hearer`."""
        self._task(task_id, name, context_id, values, finished=True)

    def _task(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...], *, finished: bool) -> None:
        task, context = self._talk.uuid("task", task_id), self._talk.uuid("task", context_id)
        if ("task finished" if finished else "task started", task) not in self._tasks:
            self._talk.say(DispatchTask(self._order, task, name, context, finished, values))

    def service_started(
        self, service_id: str, name: str, context_id: str, inputs: tuple[Given, ...], outputs: tuple[Asked, ...]
    ) -> None:
        """See `Hearer`."""
        uuid = self._talk.uuid("service", service_id)
        self._ids[uuid], self._names[uuid] = service_id, name
        known = self._asked.get(uuid)
        if known is None:
            self._tell(f"{name} asked for")
            context = self._talk.uuid("task", context_id)
            self._talk.say(DispatchService(self._order, uuid, name, context, inputs, outputs))
        elif (known.name, known.inputs) != (name, inputs):
            was = f"{known.name}{_words(known.inputs)}"
            raise LocalProtocolError(
                f"it does not go on as it began: service {known.number} was {was}, and is now {name}{_words(inputs)}"
            )


def _words(inputs: tuple[Given, ...]) -> str:
    values: Mapping[str, Any] = {one.name: one.value for one in inputs}
    return f"({json.dumps(values, ensure_ascii=False)[:200]})"
