"""The actor: a pykka actor whose inbox is ZeroMQ. The only file, with the mailbox, that touches pykka.

It runs in its process's main thread, and whatever ends its loop ends the process, with a code. `AsyncActor` is the
second flavour of the same class, for those that live on asyncio.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback as tracebacks
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pykka

from tagwerk.protocols.errors import ConfigError, NotSent, PeerDown, Refused, Timeout
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters, OutboxBell, ReadOutbox
from tagwerk.runtime import definitions
from tagwerk.runtime.control import Outcome, Peers
from tagwerk.runtime.control_box import Command, Sender
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.mailbox import Call, Ingest, Mailbox
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.states import PeerState
from tagwerk.runtime.transport import Transport, ZmqTransport
from tagwerk.runtime.watcher import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from types import TracebackType

    from tagwerk.protocols.samples import Samples
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.outbox import EventBox
    from tagwerk.runtime.reactor import Reactor, Timer

__all__ = ["Actor", "AsyncActor", "Later", "Outcome", "Sender"]

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
BEAT_S: Final = 1.0
"""How often an actor says that it is not hung; four times in its limit, if that is short."""
EVENTS: Final = "events/0"


class Later:
    """Returned by a handler that answers afterwards. Used in the actor's own thread."""

    def __init__(self) -> None:
        self._answer: Message | None = None
        self._send: Callable[[Message], None] | None = None

    def reply(self, message: Message) -> None:
        """The answer. Goes out at the next flush; a second one is ignored by the asker."""
        if self._send is None:
            self._answer = message
        else:
            self._send(message)

    def bind(self, send: Callable[[Message], None]) -> None:
        """Where the answer goes."""
        self._send = send
        if self._answer is not None:
            send(self._answer)


class Actor(pykka.Actor):
    """Owns its state alone; is reached only by messages. Subclasses override the `on_` methods.

    Args:
        context: Who it is, where it lives, and its clock.
        transport: How frames travel; ZeroMQ unless a test gives the in-memory twin.
    """

    actor_inbox: Mailbox  # pyright: ignore[reportIncompatibleVariableOverride]  pykka asks us for ours
    takes_samples: ClassVar[bool] = False
    """True if it has an ingest socket."""

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__()
        self.context = context
        self.name = context.name
        self.clock = context.clock
        self.log = logging.getLogger(context.name)
        self.failure: BaseException | None = None
        self.outbox: EventBox | None = None
        self._definitions: definitions.DefinitionTable | None = None
        self._transport = transport if transport is not None else ZmqTransport()
        self._mailbox.open(
            self.name, self._transport, self.clock, context.incarnation,
            partial(context.home.socket, self.name), self._flush,
        )  # fmt: skip
        self.directory = Directory(context.page, context.home.socket)
        self.peers = Peers(self.name, self.reactor, self.directory, self.dead_letters)
        self._publisher: Publisher | None = None
        self._handler_total_ns = 0
        self._handler_max_ns = 0

    # --- to override -------------------------------------------------------------------------------------------------

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Handle one message of the control lane; what is returned is the reply to an ask."""
        return Refusal("BadValue", f"{self.name} does not understand {type(message).__name__} from {sender.name}")

    def on_ingest(self, frames: list[bytes]) -> None:
        """Handle one message of the ingest lane; only called if `takes_samples`."""
        raise NotImplementedError(self.name)

    def on_flush(self) -> None:
        """The line is empty, or the drain has lasted long enough: apply, commit, feed. Replies go out after it."""

    # --- services ----------------------------------------------------------------------------------------------------

    @property
    def _mailbox(self) -> Mailbox:
        return self.actor_inbox

    @property
    def reactor(self) -> Reactor:
        """The actor's reactor."""
        return self._mailbox.reactor

    @property
    def dead_letters(self) -> DeadLetterBox:
        """What this actor could not deliver."""
        return self._mailbox.dead_letters

    @property
    def definitions(self) -> definitions.DefinitionTable:
        """All tag definitions, as `plant/0` last published them."""
        if self._definitions is None:
            self._definitions = definitions.load(self.context.home)
        return self._definitions

    def tell(self, to: str, message: Message, timeout_s: float = 5.0) -> None:
        """Send a message; what cannot be delivered becomes a dead letter."""
        self.peers.tell(to, message, timeout_s)

    def ask(self, to: str, message: Message, then: Callable[[Outcome], None], timeout_s: float = 5.0) -> None:
        """Send a question; `then` is called once, later, with the reply or an error. See `Peers.ask`."""
        self.peers.ask(to, message, then, timeout_s)

    def ask_until(
        self,
        to: str,
        message: Message,
        then: Callable[[Message | Refused], None],
        every_s: float = 0.05,
        timeout_s: float = 2.0,
    ) -> None:
        """Ask again until there is an answer. For questions only: a command is never repeated."""

        def again(outcome: Outcome) -> None:
            if isinstance(outcome, (NotSent, PeerDown, Timeout)):
                self.after(every_s, lambda: self.ask(to, message, again, timeout_s))
            elif isinstance(outcome, (Message, Refused)):
                then(outcome)
            else:
                raise outcome

        self.ask(to, message, again, timeout_s)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, so much later, as a message to this actor."""
        return self.reactor.after(seconds, call)

    def every(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call again and again."""
        return self.reactor.every(seconds, call)

    def publisher(self) -> Publisher:
        """The numbered links on which this actor publishes what it owns."""
        if self._publisher is None:
            self._publisher = Publisher(
                self.name, self.reactor, self.directory, self.definitions.shard_of,
                self.context.plant.plant.shards, incarnation=self.context.incarnation, named=True,
            )  # fmt: skip
        return self._publisher

    def watch(
        self,
        globs: Sequence[str],
        on_samples: Callable[[Samples], None],
        on_stale: Callable[[str, bool], None] | None = None,
    ) -> Watch:
        """Follow the tags that match: the snapshot first, then every change. See `Watch`."""
        shards = [f"cvt/{i}" for i in range(self.context.plant.plant.shards)]
        return Watch(globs, shards, self.reactor, self.directory, self.peers, on_samples, on_stale)

    def ready(self) -> None:
        """Say that this actor serves."""
        self.context.slot.write_state(PeerState.RUNNING)
        self.log.info("ready, incarnation %d", self.context.incarnation)

    @contextmanager
    def busy(self, reason: str, limit_s: float) -> Generator[None]:
        """While inside, the supervisor does not take silence for a hang, up to `limit_s`."""
        self.context.slot.write_busy(reason, self.clock.mono_ns() + int(limit_s * 1e9))
        try:
            yield
        finally:
            self.context.slot.write_busy("", 0)
            self._beat()

    # --- how it runs -------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Live until stopped or failed; returns the exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._open()
        self._actor_loop()
        return self._end()

    def _open(self) -> None:
        limit_s = self.context.slot.read().hang_after_ns / 1e9
        self.reactor.every(min(BEAT_S, limit_s / 4) if limit_s else BEAT_S, self._beat)
        if self.takes_samples:
            self.ingest_port = self._mailbox.open_ingest(self.context.home.socket(self.name, "in"))

    def _end(self) -> int:
        if self.failure is None:
            self.context.slot.write_state(PeerState.STOPPING)
            self._mailbox.box.flush()
            self._transport.close()
            return 0
        text = "".join(tracebacks.format_exception_only(self.failure)).strip()
        self.context.slot.leave_words(text.splitlines()[-1])
        return EXIT_CONFIG if isinstance(self.failure, ConfigError) else EXIT_FAILED

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop()

    def _beat(self) -> None:
        self.context.slot.write_gauges(
            beat_mono_ns=self.clock.mono_ns(),
            inbox_depth=self._mailbox.depth,
            inbox_oldest_mono_ns=0,
            handled=self._mailbox.handled,
            deadletters=self.dead_letters.total,
            handler_total_ns=self._handler_total_ns,
            handler_max_ns=self._handler_max_ns,
        )

    def _flush(self) -> None:
        self.on_flush()
        if self._publisher is not None:
            self._publisher.flush()
        if self.outbox is not None and self.outbox.dirty:
            self.outbox.dirty = False
            events = self.directory.peer(EVENTS)
            if events is not None and events.up:  # else it asks by itself when it starts
                self.tell(EVENTS, OutboxBell())

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        msg = "an actor runs in its process's main thread: call run()"
        raise NotImplementedError(msg)

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Every failure ends the process: state that an exception left half-changed must not serve anyone.
        self.failure = exception_value
        if isinstance(exception_value, ConfigError):
            self.log.error("%s", exception_value)
        else:
            self.log.critical("failed", exc_info=exception_value)
        self.actor_stopped.set()
        self._mailbox.closed = True

    def _stop(self) -> None:
        super()._stop()
        self._mailbox.closed = True

    def on_receive(self, message: Any) -> None:
        """Serve one item of the mailbox."""
        started_ns = self.clock.mono_ns()
        if isinstance(message, Ingest):
            self.on_ingest(message.frames)
        elif isinstance(message, Call):
            message.call()
        elif isinstance(message, Command):
            self._serve(message)
        else:
            self._local_message(message)
        took_ns = self.clock.mono_ns() - started_ns
        self._handler_total_ns += took_ns
        self._handler_max_ns = max(self._handler_max_ns, took_ns)

    def _local_message(self, message: Message) -> None:
        self.on_message(message, Sender(self.name, 0, b"", 0, 0))

    def _serve(self, command: Command) -> None:
        reply = self._answer(command.message, command.sender)
        if isinstance(reply, Later):
            reply.bind(partial(self._reply_later, command.sender))
        elif reply is not None:
            self._mailbox.box.reply(command.sender, reply)

    def _reply_later(self, sender: Sender, message: Message) -> None:
        # As a call of its own, so that a flush follows even if nothing else is in the line.
        self.reactor.after(0, lambda: self._mailbox.box.reply(sender, message))

    def _answer(self, message: Message, sender: Sender) -> Message | Later | None:
        if isinstance(message, GetDeadLetters):
            box = self.dead_letters
            return DeadLetters(
                box.total, tuple(box.letters[-max(1, message.limit) :]), tuple(sorted(box.counts.items()))
            )
        if isinstance(message, ReadOutbox) and self.outbox is not None:
            return self.outbox.page(message.after, message.limit, message.box)
        return self.on_message(message, sender)


class AsyncActor(Actor):
    """The same actor on an asyncio loop: handlers are plain functions, and `spawn` runs coroutines beside them."""

    loop: asyncio.AbstractEventLoop

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine; if it fails, the actor fails."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def run(self) -> int:
        """See `Actor.run`."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._pump_handle: asyncio.Handle | None = None
        self._wake_handle: asyncio.Handle | None = None
        self._pumping = False
        asyncio.run(self._live())
        return self._end()

    async def on_stop_async(self) -> None:
        """The last thing before the loop ends: close what needs awaiting."""

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._finished = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        self._open()
        self._watched: set[int] = set()
        self.reactor.on_ports_changed = self._watch_ports
        self.reactor.on_touched = self.wake
        self._actor_loop_setup()
        self._watch_ports()
        self._pump()
        await self._finished.wait()
        await self.on_stop_async()
        self._mailbox.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for descriptor in self._watched:
            self.loop.remove_reader(descriptor)

    def _watch_ports(self) -> None:
        wanted = set(self._transport.fds(self.reactor.ports))
        for descriptor in self._watched - wanted:
            self.loop.remove_reader(descriptor)
        for descriptor in wanted - self._watched:
            self.loop.add_reader(descriptor, self._pump)
        self._watched = wanted
        self.wake()

    def wake(self) -> None:
        """Have the mailbox looked at soon: after anything that may have sent or received outside of it."""
        if not self._pumping and self._wake_handle is None:
            self._wake_handle = self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Serve all that is there, as pykka's loop would, then sleep until a socket or a timer is due."""
        if self._finished.is_set():
            return
        self._wake_handle, self._pumping = None, True
        more = self._pump_turns()
        self._pumping = False
        if self.actor_stopped.is_set():
            self._finished.set()
            return
        if self._pump_handle is not None:
            self._pump_handle.cancel()
        delay_s = 0.0 if more else self.reactor.next_due_ns(1_000_000_000) / 1e9
        self._pump_handle = self.loop.call_later(delay_s, self._pump)

    def _pump_turns(self) -> bool:
        """Drain and flush until nothing is left; True if it stopped to let asyncio's own callbacks have their turn."""
        for _ in range(20):
            if self.actor_stopped.is_set():
                return False
            moved = self.reactor.step(0)
            served = self._serve_line()
            if not self._mailbox.flush() and not served and not moved:
                return False
        return True

    def _serve_line(self) -> bool:
        served = False
        while not self.actor_stopped.is_set() and (envelope := self._mailbox.take()) is not None:
            served = True
            try:
                self._handle_receive(envelope.message)
            except Exception:  # the failure policy of an actor: it fails
                self._handle_failure(*sys.exc_info())
        return served

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._handle_failure(type(error), error, error.__traceback__)
            self._finished.set()


def end_process(code: int) -> None:
    """Leave now, without what the interpreter does at exit: a forked child must not run its parent's."""
    logging.shutdown()
    os._exit(code)
