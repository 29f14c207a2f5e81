"""The actor `order/0`: all orders of a plant run in it, each with a log of its own in one store.

What comes in becomes a record of an order; records are committed at each flush; only then is done what they ask for,
and are questions answered. So a kill at any moment leaves orders as their logs say, and what may have been left undone
is done again: resources know each service by its uuid.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, final

from tagwerk.actors.orders.crew_feed import CrewFeed
from tagwerk.actors.orders.crew_hands import Hands
from tagwerk.actors.orders.crew_tags import CrewTags
from tagwerk.actors.orders.dispatchers import Dispatchers
from tagwerk.actors.orders.logic.life import Effect, Life, ServiceState, Stop, Wake
from tagwerk.actors.orders.logic.order import Order
from tagwerk.actors.orders.logic.pfdl import Interpreter, Program, Unsound, read, root_uuid
from tagwerk.actors.orders.logic.records import (
    Begun,
    Controlled,
    Doubted,
    Fell,
    Gave,
    Heard,
    Overdue,
    Progressed,
    Record,
    Resolved,
    Restored,
    Stopped,
    TokensTaken,
)
from tagwerk.actors.orders.logic.timers import Timers
from tagwerk.actors.orders.logic.wishes import refuse_control, refuse_unbounded, unknown_service, wrong_outputs
from tagwerk.actors.orders.order_store import FILE, OrderStore, Stored, variables_of
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.orders import (
    ControlOrder,
    GetOrder,
    GetOrderLog,
    GetOrders,
    OrderDetail,
    OrderLog,
    OrderRow,
    OrderRows,
    OrderStarted,
    ResolveService,
    ServiceRow,
    ServiceStatus,
    StartOrder,
    StopService,
)
from tagwerk.protocols.plantwide import Event
from tagwerk.runtime.actor import Actor, Later, Sender
from tagwerk.runtime.home import RESTORED

if TYPE_CHECKING:
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.transport import Transport

LIVE_LIMIT: Final = 1_000
"""Orders that run at the same time."""
ROWS_LIMIT: Final = 1_000
START_LIMIT_S: Final = 120.0
LOOK_S: Final = 0.1
"""How often the services' times are looked at."""
SYNC_S: Final = 0.01
"""What a resource said is synced after this, if nothing else was meanwhile that had to be."""
LAZY: Final = (Progressed, TokensTaken, Gave, Fell, Doubted, Heard, Stopped)
PRUNE_S: Final = 3_600.0
PRUNE_AT_ONCE: Final = 100
DAY_NS: Final = 86_400_000_000_000
ACTIONS: Final = ("pause", "resume", "cancel", "retry")
OUTCOMES: Final = ("done", "failed", "retry")


@dataclass(slots=True)
class Live:
    """An order for which something is left to be done.

    Args:
        stored: As it was when it was taken up.
        order: Itself.
        seq: Of its last record.
    """

    stored: Stored
    order: Order
    seq: int


@final
class Crew(Actor):
    """Runs orders: see the module.

    Args:
        context: Who it is and where it lives.
        transport: ZeroMQ unless a test gives the in-memory twin.
    """

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self._config = context.plant.order
        self.live: dict[str, Live] = {}
        self._effects: list[tuple[str, Effect]] = []
        self._programs: dict[str, Program] = {}
        self._looks = False
        self._timers = Timers()
        self._unthanked: list[Later] = []
        self._sync_due = False

    # --- start and stop ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Take up all orders that were not done, then do what may have been left undone."""
        with self.busy("take up orders", START_LIMIT_S):
            self._store = OrderStore(self.context.home.actor_data(self.name) / FILE)
            self.outbox = self._store.outbox
            self._hands = Hands(self, self._config.assign_wait_s)
            self._dispatchers = Dispatchers(self)
            self._feed = CrewFeed(self)
            for stored in self._store.live():
                found = self._take_up(stored)
                self._effects += [(stored.id, effect) for effect in found.order.pending()]
        self._tags = CrewTags(self)
        self._after_restore()
        self.after(0, lambda: None)  # a flush follows it, and does what is pending
        self._look()
        self.every(PRUNE_S, self._prune)
        self.ready()

    def _after_restore(self) -> None:
        """Orders of a backup do not go on by themselves: the resources have gone on without them."""
        marker = self.context.home.actor_data(self.name) / RESTORED
        if marker.exists():
            for order_id in list(self.live):
                self.record(order_id, Restored())
            self._store.commit()  # before the marker goes: a kill between them does it once more
            marker.unlink()

    def on_stop(self) -> None:
        """Let go of the store."""
        self._tags.goodbye()
        self._store.close()

    def _take_up(self, stored: Stored) -> Live:
        program = None if stored.text is None else self._program(stored.text)
        order = Order(stored.run_id, program, stored.life)
        for time_ns, record in stored.records:
            order.apply(record, time_ns)
        found = self.live[stored.id] = Live(stored, order, stored.seq)
        return found

    def _program(self, text: str) -> Program:
        if text not in self._programs:
            if len(self._programs) >= LIVE_LIMIT:
                self._programs.clear()
            with self.busy("read an order", START_LIMIT_S):
                self._programs[text] = read(text)
        return self._programs[text]

    # --- what comes in -----------------------------------------------------------------------------------------------

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Serve operators, resources, and dispatchers of other kinds."""
        try:
            if isinstance(message, ServiceStatus):
                return self._told(message, sender)
            refuse_unbounded(message)
            if isinstance(message, StartOrder):
                return self._start(message)
            if isinstance(message, ControlOrder):
                return self._control(message)
            if isinstance(message, ResolveService):
                return self._resolve(message)
            answer: Message | Later | None = self._asked(message)
            if answer is None:
                answer = self._dispatchers.on_message(message, sender) or self._feed.on_message(message, sender)
        except Refused as refused:
            return Refusal(refused.code, refused.message, refused.tag)
        return answer if answer is not None else super().on_message(message, sender)

    def record(self, order_id: str, record: Record) -> Live:
        """Take a record: it is stored with the next flush, and then done what it asks for."""
        live = self.live[order_id]
        now_ns = self.clock.now_ns()
        before = live.order.life.shown
        change = live.order.apply(record, now_ns)
        live.seq += 1
        life = live.order.life
        uuid = getattr(record, "service_uuid", "")
        number = next((one.number for one in change.touched if one.uuid == uuid), 0)
        # What a resource says it says again until it hears that it is stored: that needs no sync of its own, as long as
        # nothing but a question follows from it.
        lazy = isinstance(record, LAZY) and not any(isinstance(one, (Stop, Wake)) for one in change.effects)
        self._store.append(live.stored.number, live.seq, now_ns, number, record, must_sync=not lazy)
        self._store.update(live.stored.number, live.seq, life, now_ns, change.touched)
        self._effects += [(order_id, effect) for effect in change.effects]
        if life.shown != before:
            self._audit(order_id, "state", before, life.shown, life.reason)
        self._feed.add(live, record, change, before)
        self._tags.changed(order_id)
        if not self._looks and any(one.timeout_s is not None for one in change.touched):
            self._looks = True
            self.after(LOOK_S, self._look)
        if life.over:
            del self.live[order_id]
        return live

    def on_flush(self) -> None:
        """Commit, then do what the records ask for."""
        if self._store.commit():
            thanked, self._unthanked = self._unthanked, []
            for later in thanked:
                later.reply(Done())
        elif not self._sync_due:
            self._sync_due = True
            self.after(SYNC_S, self._sync)
        self._feed.flushed()
        effects, self._effects = self._effects, []
        for order_id, effect in effects:
            self._hands.do(order_id, effect)

    def _sync(self) -> None:
        self._sync_due = False
        self._store.sync()  # the flush that follows thanks

    def _told(self, status: ServiceStatus, sender: Sender) -> Message | Later:
        """A resource says how a service stands; the answer says that this is stored, synced."""
        self.take_status(status)
        live = self.live.get(status.order)
        life = None if live is None else live.order.life
        if status.phase == "UNKNOWN" and (life is None or not self._waits(life, status.service_uuid)):
            # We know its end, and the resource has lost it: its place must not stay taken.
            self.ask(sender.name, StopService(status.service_uuid), lambda _: None)
        if status.phase not in ("ENDED", "UNKNOWN"):
            return Done()
        later = Later()
        self._unthanked.append(later)
        return later

    @staticmethod
    def _waits(life: Life, uuid: str) -> bool:
        return uuid in life.services or uuid in life.stopping

    def open_order(self, name: str, text: str | None, priority: int, by: str) -> Live:
        """Make a new order; it has no record yet.

        Raises:
            Refused: There are too many.
        """
        if len(self.live) >= LIVE_LIMIT:
            raise Refused(RefusedCode.CONFLICT, f"{LIVE_LIMIT} orders run already")
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "order"
        token = secrets.token_hex(8)
        return self._take_up(self._store.create(stem, token, name, text, priority, by, self.clock.now_ns()))

    def running(self, order_id: str) -> Live:
        """Give an order that runs.

        Raises:
            Refused: There is none of this id, or it has ended.
        """
        if order_id in self.live:
            return self.live[order_id]
        if self._store.row(order_id) is None:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no order {order_id!r}")
        raise Refused(RefusedCode.CONFLICT, f"order {order_id} has ended")

    # --- operators ---------------------------------------------------------------------------------------------------

    def _start(self, message: StartOrder) -> Message:
        try:
            program = self._program(message.text)
        except Unsound as error:
            raise Refused(RefusedCode.BAD_VALUE, f"{message.name} is not sound: {error}") from error
        Interpreter(program).start("check", message.inputs)
        live = self.open_order(message.name, message.text, message.priority, message.by)
        self._audit(live.stored.id, "start", "", message.name, message.reason, message.by, message.host)
        self.record(live.stored.id, Begun(message.inputs, message.by, message.host, message.reason))
        return OrderStarted(live.stored.id)

    def _control(self, message: ControlOrder) -> Message:
        if message.action not in ACTIONS:
            raise Refused(RefusedCode.BAD_VALUE, f"{message.action!r} is none of {', '.join(ACTIONS)}")
        live = self._any(message.id)
        refuse_control(live.order.life, message.action)
        self.live[message.id] = live
        self._audit(message.id, message.action, live.order.life.shown, "", message.reason, message.by, message.host)
        self.record(message.id, Controlled(message.action, message.by, message.host, message.reason))
        return self._row(message.id)

    def _resolve(self, message: ResolveService) -> Message:
        if message.outcome not in OUTCOMES:
            raise Refused(RefusedCode.BAD_VALUE, f"{message.outcome!r} is none of {', '.join(OUTCOMES)}")
        live = self.running(message.id)
        one = unknown_service(live.order.life, message.service)
        if message.outcome == "done" and not one.orphan:
            program = None if live.stored.text is None else self._program(live.stored.text)
            if wrong := list(wrong_outputs(one, message.outputs, program)):
                raise Refused(RefusedCode.BAD_VALUE, "; ".join(wrong))
        said = f"{one.number} {one.name}: {message.outcome}"
        self._audit(message.id, "resolve", "UNKNOWN", said, message.reason, message.by, message.host)
        outputs = message.outputs if message.outcome == "done" else {}
        self.record(message.id, Resolved(one.uuid, message.outcome, outputs, message.by, message.host, message.reason))
        return self._row(message.id)

    def _asked(self, message: Message) -> Message | None:
        if isinstance(message, GetOrders):
            return OrderRows(self._store.rows(max(1, min(message.limit, ROWS_LIMIT)), ended=message.all))
        if isinstance(message, GetOrder):
            live, limit = self._any(message.id), max(1, min(message.limit, ROWS_LIMIT))
            services, more = self._store.services(live.stored.number, message.after, limit)
            variables = dict(variables_of(live.order.life, root_uuid(live.stored.run_id)))
            return OrderDetail(self._row(message.id), tuple(services), variables, more)
        if isinstance(message, GetOrderLog):
            limit = max(1, min(message.limit, ROWS_LIMIT))
            entries, more = self._store.log(self._any(message.id).stored.number, message.after, limit)
            return OrderLog(tuple(entries), more)
        return None

    def _any(self, order_id: str) -> Live:
        """Give an order, one that has ended too."""
        if order_id in self.live:
            return self.live[order_id]
        stored = self._store.find(order_id)
        if stored is None:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no order {order_id!r}")
        live = self._take_up(stored)
        del self.live[order_id]
        return live

    def _row(self, order_id: str) -> OrderRow:
        row = self._store.row(order_id)
        if row is None:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"there is no order {order_id!r}")
        return row

    # --- resources ---------------------------------------------------------------------------------------------------

    def take_status(self, status: ServiceStatus) -> None:
        """Take what a resource says of a service. What is known already, or of nobody's interest, changes nothing."""
        live = self.live.get(status.order)
        if live is None:
            return
        uuid, life = status.service_uuid, live.order.life
        if uuid in life.stopping:
            if status.phase in ("ENDED", "GONE"):
                self.record(status.order, Stopped(uuid, status.reason))
            return
        one = life.services.get(uuid)
        times = (status.queued_ns, status.called_ns)
        if one is not None and one.state == ServiceState.UNKNOWN and status.late:
            self.record(status.order, Heard(uuid, status.outputs, status.failure, status.reason, *times))
        if one is None or one.state != ServiceState.SENT:
            return
        if status.phase == "ENDED" and not status.failure:
            self.record(status.order, Gave(uuid, status.outputs, *times))
        elif status.phase == "ENDED":
            self.record(status.order, Fell(uuid, status.failure, status.reason, *times))
        elif status.phase in ("UNKNOWN", "GONE"):
            self.record(status.order, Doubted(uuid, status.reason, *times))
        elif status.phase != one.phase:
            self.record(status.order, Progressed(uuid, status.phase, *times))

    # --- time --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look whose time is over; again soon, as long as somebody has a time."""
        lives = [(order_id, live.order.life) for order_id, live in self.live.items()]
        for order_id, uuid in self._timers.over(lives, self.clock.now_ns(), self.clock.mono_ns()):
            if order_id in self.live:
                self.record(order_id, Overdue(uuid))
        self._looks = self._timers.any
        if self._looks:
            self.after(LOOK_S, self._look)

    def _prune(self) -> None:
        if self._config.keep_days is not None:
            before_ns = self.clock.now_ns() - int(self._config.keep_days * DAY_NS)
            if self._store.prune(before_ns, PRUNE_AT_ONCE) == PRUNE_AT_ONCE:
                self.after(0, partial(self._prune))

    def _audit(
        self, order_id: str, kind: str, before: str, after: str, reason: str, by: str = "", host: str = ""
    ) -> None:
        self._store.begin()
        event = Event(
            self.clock.now_ns(), by or self.name, host, f"order.{kind}", f"order/{order_id}", before, after, reason
        )
        self._store.outbox.put(event)

    # --- for its parts -----------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """How many orders have tags of their own."""
        return self._config.slots

    def seen(self, order_id: str) -> tuple[Live, OrderRow]:
        """Give any order as it is now, and in one line.

        Raises:
            Refused: There is none of this id.
        """
        return self._any(order_id), self._row(order_id)

    def state_of(self, order_id: str) -> str:
        """Give the state of any order.

        Raises:
            Refused: There is none of this id.
        """
        return self._row(order_id).state

    def ended_service(self, order_id: str, uuid: str) -> ServiceRow | None:
        """Give a service of an order that runs, however long ago it ended; None if it had none of this uuid."""
        return self._store.service_of(self.live[order_id].stored.number, uuid)

    def wake_dispatcher(self, order_id: str) -> None:
        """There is something for an order's dispatcher."""
        self._dispatchers.wake(order_id)
