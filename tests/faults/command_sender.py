"""Sends commands from a process of its own, and accounts for each: run as a script.

    python command_sender.py HOME HANDLE ASKS TELLS TIMEOUT_S

Says `ready` when the connection stands; sends the writes 1 to ASKS + TELLS when told `send`, and says `sent` when all
were handed over; tells in JSON what became of them when told `account`, then ends.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

from tagwerk.protocols.message import Message
from tagwerk.protocols.tags import ReadTags, WriteTag
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.control import Outcome, Peers
from tagwerk.runtime.dead_letters import DeadLetterBox
from tagwerk.runtime.directory import Directory
from tagwerk.runtime.home import Home
from tagwerk.runtime.page import Page
from tagwerk.runtime.reactor import Reactor
from tagwerk.runtime.transport import ZmqTransport

SHARD = "cvt/0"


class Commands:
    """The commands, and what became of them."""

    def __init__(self, home: Home, handle: int, asks: int, tells: int, timeout_s: float) -> None:
        self._handle = handle
        self._asks, self._tells = asks, tells
        self._timeout_s = timeout_s
        self.reactor = Reactor(ZmqTransport(), SystemClock())
        directory = Directory(Page.open(home.file("node/main", "page")), home.socket)
        self._dead = DeadLetterBox()
        self._peers = Peers("attach/sender", self.reactor, directory, self._dead)
        self._outcomes: Counter[str] = Counter()
        self._peers.ask(SHARD, ReadTags((handle,)), lambda _: say("ready"))
        self.running = True

    def obey(self, word: str) -> None:
        """Do what stdin says."""
        if word == "send":
            for number in range(1, self._asks + self._tells + 1):
                order = WriteTag(self._handle, float(number), by="sender")
                if number <= self._asks:
                    self._peers.ask(SHARD, order, self._note, self._timeout_s)
                else:
                    self._peers.tell(SHARD, order, self._timeout_s)
            self._look()
        elif word == "account":
            say(json.dumps({"outcomes": self._outcomes, "letters": self._dead.counts}))
        else:
            self.running = False

    def _note(self, outcome: Outcome) -> None:
        self._outcomes["done" if isinstance(outcome, Message) else type(outcome).__name__] += 1

    def _look(self) -> None:
        link = self._peers._links[SHARD]
        if link.window.to_send() is None:
            say("sent")
        else:
            self.reactor.after(0.005, self._look)


def say(line: str) -> None:
    """One line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Obey until stdin ends."""
    home, handle, asks, tells, timeout_s = sys.argv[1:]
    commands = Commands(Home(Path(home)), int(handle), int(asks), int(tells), float(timeout_s))

    def read() -> None:
        for line in itertools.chain(sys.stdin, ["end"]):
            commands.reactor.post(partial(commands.obey, line.strip()))

    threading.Thread(target=read, daemon=True).start()
    while commands.running:
        commands.reactor.step(100_000_000)


if __name__ == "__main__":
    main()
