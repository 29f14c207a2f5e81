"""Many views in one process: what they get is counted, not used. And a loop that asks as an actor does."""

from __future__ import annotations

import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.protocols.frames import canonical_globs, view_topic
from tagwerk.protocols.samples import decode
from tagwerk.protocols.tags import OpenView
from tagwerk.runtime.bench.tasks import Flow
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.control import Outcome, Peers
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import Port, ZmqTransport

IDLE_NS: Final = 200_000_000
QUIET_NS: Final = 20_000_000
PATIENCE_S: Final = 120.0
LEASE_S: Final = 3_600.0
OPEN_S: Final = 600.0
"""A shard looks at each of its names for each view: a thousand views of 100,000 tags take minutes to open."""
AT_ONCE: Final = 5
"""Views that are asked for at a time: a shard looks at all its names for each, and is not to seem hung."""


class Loop:
    """One thread that talks to actors with what actors talk with: no other thread takes part.

    Args:
        home: The plant's.
        name: Ours there.
    """

    def __init__(self, home: Path, name: str) -> None:
        place = Home(home)
        self._page = Page.open(place.file("node/main", "page"))
        self.shards = [name for name in self._page.names() if name.startswith("cvt/")]
        self._transport = ZmqTransport()
        self.reactor = Reactor(self._transport, SystemClock())
        self.directory = Directory(self._page, place.socket)
        self.peers = Peers(name, self.reactor, self.directory, DeadLetterBox())

    def close(self) -> None:
        """Close the sockets."""
        self._transport.close()
        self._page.close()


class Crowd:
    """Views of all shards, their topics on one socket a shard.

    Args:
        loop: Where it lives.
        globs: One a view.
    """

    def __init__(self, loop: Loop, globs: tuple[str, ...]) -> None:
        self._loop = loop
        self._answers: list[Outcome] = []
        self.frames = 0
        self.samples = 0
        for shard in loop.shards:
            port = loop.reactor.transport.subscriber(loop.directory.socket(shard, "feed"))
            loop.reactor.add(port, partial(self._drain, port))
            for start in range(0, len(globs), AT_ONCE):
                part = globs[start : start + AT_ONCE]
                for glob in part:
                    views = canonical_globs([glob])
                    port.subscribe(view_topic(views))
                    loop.peers.ask(shard, OpenView(views, LEASE_S), self._answers.append, PATIENCE_S)
                self._until_answered(len(part))

    def _until_answered(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(self._answers) < count:
            self._loop.reactor.step(IDLE_NS)
            if time.monotonic() > deadline:
                raise Unavailable("the views were not opened")
        failed = next((one for one in self._answers if isinstance(one, TagwerkError)), None)
        if failed is not None:
            raise failed
        self._answers.clear()

    def _drain(self, port: Port) -> None:
        while (frames := port.recv()) is not None:
            self.frames += 1
            self.samples += sum(map(len, decode(frames[2]))) if frames[2] else 0

    def take(self) -> None:
        """Take what is there, until nothing comes for a while."""
        while self._loop.reactor.step(QUIET_NS):
            pass


def crowd(pipe: Connection, task: Flow) -> None:
    """Open the views, count until told that it is enough."""
    loop = Loop(Path(task.home), "attach/bench_crowd")
    views = Crowd(loop, task.crowd)
    views.take()
    views.frames = views.samples = 0  # what came with the opening does not count
    pipe.send("in step")
    while not pipe.poll():
        views.take()
    views.take()
    pipe.send((views.frames, views.samples))
    pipe.recv()
