"""The control lane under faults: each command is done in time by whom it was meant for, once, or not at all."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brewery import Brewery, wait_for
from command_sender import SHARD
from small_plant import start_plant

import tagwerk
from tagwerk.protocols.plantwide import DeadLetters, EventList, GetDeadLetters, GetEvents
from tagwerk.runtime.home import Home
from tagwerk.runtime.status import status_rows

pytestmark = pytest.mark.slow
_log = logging.getLogger(__name__)

TAG = "valve.target"
BEFORE = -1.0
ASKS, TELLS = 600, 300


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    plant = start_plant(tmp_path_factory.mktemp("control"), [f"{TAG},float,true"])
    try:
        yield plant
    finally:
        plant.stop()


class Sender:
    """A `command_sender` and how it is spoken to."""

    def __init__(self, home: Path, handle: int, timeout_s: float) -> None:
        script = Path(__file__).with_name("command_sender.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(home), *map(str, (handle, ASKS, TELLS, timeout_s))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.hear("ready")

    def hear(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def account(self) -> tuple[dict[str, int], dict[str, int]]:
        """What became of the asks, and the sorts of the dead letters."""
        assert self.process.stdout is not None
        self.say("account")
        found = json.loads(self.process.stdout.readline())
        return found["outcomes"], found["letters"]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def sender(plant: Brewery) -> Iterator[Callable[[float], Sender]]:
    made: list[Sender] = []

    def start(timeout_s: float) -> Sender:
        with plant.attach() as client:
            client.write(TAG, BEFORE)
            made.append(Sender(plant.home, client.definition(TAG).handle, timeout_s))
        return made[-1]

    yield start
    for one in made:
        one.end()


def executed(client: tagwerk.Plant) -> list[float]:
    """The commands that were carried out, from wherever that leaves a trace: value, history, log of events."""
    begun = time.time_ns() - 3_600_000_000_000
    client.write(TAG, 0.0)  # when this is in history, all before it is
    wait_for("the history", lambda: 0.0 in client.history(TAG, begun, time.time_ns() + 10**9)[TAG].values[-1:])
    stored = [float(value) for value in client.history(TAG, begun, time.time_ns() + 10**9)[TAG].values]
    events = client.query("events/0", GetEvents(10_000, target=TAG), EventList).events
    logged = [float(event.after) for _, event in events if event.user == "sender"]
    return [value for value in stored + logged if value > 0]


@pytest.mark.parametrize("sender_stands_still", [False, True])
def test_no_successor_carries_out_what_a_killed_actor_was_told(
    plant: Brewery, sender: Callable[[float], Sender], sender_stands_still: bool
) -> None:
    commands = sender(30.0)
    before = plant.kill(SHARD, signal.SIGSTOP)
    commands.say("send")
    commands.hear("sent")
    if sender_stands_still:  # it learns of the death only when the successor is there
        commands.process.send_signal(signal.SIGSTOP)
    plant.kill(SHARD)
    wait_for("the successor", lambda: plant.reborn(SHARD, before))
    commands.process.send_signal(signal.SIGCONT)
    with plant.attach() as client:
        wait_for("all asks answered", lambda: sum(commands.account()[0].values()) == ASKS)
        assert executed(client) == []
    outcomes, letters = commands.account()
    _log.info("asks %s, dead letters %s", outcomes, letters)
    assert set(outcomes) <= {"NotSent", "PeerDown"}
    assert set(letters) <= {"not done", "unknown"}
    # What a successor refuses is a dead letter of the asks, too.
    assert sum(letters.values()) - outcomes.get("NotSent", 0) == TELLS


def test_what_an_actor_comes_to_too_late_is_not_done(plant: Brewery, sender: Callable[[float], Sender]) -> None:
    commands = sender(0.5)
    before = plant.kill(SHARD, signal.SIGSTOP)
    commands.say("send")
    commands.hear("sent")
    wait_for("all deadlines", lambda: commands.account()[0] == {"Timeout": ASKS})
    plant.kill(SHARD, signal.SIGCONT)
    wait_for("the actor's word", lambda: commands.account()[1] == {"not done": ASKS + TELLS})
    with plant.attach() as client:
        assert executed(client) == []
        assert plant.peer(SHARD).incarnation == before.incarnation
        counts = dict(client.query(SHARD, GetDeadLetters(), DeadLetters).counts)
        assert counts["not done"] == ASKS + TELLS
    wait_for("its row", lambda: _row(plant, SHARD)["deadletters"] == ASKS + TELLS)


def test_done_in_time_means_done_once(plant: Brewery, sender: Callable[[float], Sender]) -> None:
    commands = sender(30.0)
    plant.kill(SHARD, signal.SIGSTOP)
    commands.say("send")
    commands.hear("sent")
    plant.kill(SHARD, signal.SIGCONT)
    wait_for("all answers", lambda: commands.account()[0] == {"done": ASKS})
    with plant.attach() as client:
        wait_for("the last one", lambda: client.read(TAG).value == float(ASKS + TELLS))
        done = executed(client)
        assert sorted(done) == sorted([*map(float, range(1, ASKS + TELLS + 1))] * 2)  # in history, and in the log
    assert commands.account()[1] == {}


def _row(plant: Brewery, name: str) -> dict[str, object]:
    return next(row for row in status_rows(Home(plant.home)) if row["name"] == name)
