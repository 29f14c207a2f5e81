"""The client's own thread: it owns the sockets, and answers beats whatever the script does."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tagwerk.protocols.errors import TagwerkError, Timeout, Unavailable
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.control import Peers
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.page import Page
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import ZmqTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tagwerk.runtime.home import Home

T = TypeVar("T")

IDLE_NS: Final = 200_000_000
LOOK_S: Final = 1.0
"""How often it is seen whether the node has died: a node that was killed cannot say so in its page."""
STUCK_S: Final = 2.0
"""What a call is due to be answered by, and so much more: then the thread is stuck."""


class Engine:
    """The client's own thread: reactor, control lane, publisher. Everything in it runs in that thread."""

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.name = name
        self.clock = SystemClock()
        try:
            self.page = Page.open(home.file("node/main", "page"))
        except OSError as error:
            msg = f"no plant is up in {home.root}: {error.strerror}"
            raise Unavailable(msg) from error
        self.transport = ZmqTransport()
        self.reactor = Reactor(self.transport, self.clock)
        self.directory = Directory(self.page, home.socket)
        self.dead_letters = DeadLetterBox()
        self.peers = Peers(name, self.reactor, self.directory, self.dead_letters)
        self.reactor.every(LOOK_S, self._look)
        self.failure: BaseException | None = None
        self._running = True
        self.pid = os.getpid()
        self.thread = threading.Thread(target=self._run, name="tagwerk", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while self._running:
                self.reactor.step(IDLE_NS)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.transport.close()

    def _look(self) -> None:
        self.page.reopen_if_replaced()

    def call(self, work: Callable[[Future[T]], None]) -> Future[T]:
        """Run `work` in the thread; it settles the future it is given, now or later."""
        if self.failure is not None or not self._running:
            msg = f"the connection has ended: {self.failure or 'it was closed'}"
            raise Unavailable(msg)
        future: Future[T] = Future()

        def run() -> None:
            try:
                work(future)
            except TagwerkError as error:
                fail(future, error)

        self.reactor.post(run)
        return future

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self.thread.is_alive() and self.failure is None and self._running

    def stop(self) -> None:
        """End the thread and close the sockets."""

        def end() -> None:
            self._running = False

        if self._running and self.thread.is_alive():
            self.reactor.post(end)
            self.thread.join(5)


def settle(future: Future[T], value: T) -> None:
    """Give a future its result, unless it has one."""
    if not future.done():
        future.set_result(value)


def fail(future: Future[Any], error: BaseException) -> None:
    """Give a future its error, unless it has a result."""
    if not future.done():
        future.set_exception(error)


def result_of(future: Future[T], limit_s: float) -> T:
    """Wait for what the client's thread settles; it settles all by itself, the limit is for a thread that is stuck.

    Raises:
        Timeout: It is stuck.
    """
    try:
        return future.result(limit_s + STUCK_S)
    except FutureTimeout as error:
        msg = f"the client's thread did not answer within {limit_s + STUCK_S:g} s"
        raise Timeout(msg) from error
