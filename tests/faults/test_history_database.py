"""A plant whose history is in PostgreSQL: whatever the database and the historian do, each sample is there once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from brewery import Brewery, wait_for
from postgres_server import Server, missing

import tagwerk
from tagwerk.protocols.errors import Refused, Unavailable
from tagwerk.protocols.history import GetHistorianState, HistorianState
from tagwerk.protocols.plantwide import Event, EventList, GetEvents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

TAGS = tuple(f"flow.t{number:03}" for number in range(100))
BATCHES_S = 50
"""Of 100 samples each."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def rig(tmp_path: Path, server: Server) -> Iterator[Brewery]:
    (tmp_path / "tags.csv").write_text("name,type\n" + "".join(f"{name},float\n" for name in TAGS))
    path = tmp_path / "plant.toml"
    path.write_text(
        '[plant]\nname = "distant"\nshards = 2\ntag_files = ["tags.csv"]\n[node.main]\nrestarts = 1000\n'
        f'[history]\nstore = "{server.url}"\n'
    )
    rig = Brewery.bring_up(tmp_path, path)
    yield rig
    rig.stop()


class Writer(threading.Thread):
    """Counts on all tags at 5,000 samples/s until it is told to end; what counts is what was acknowledged."""

    def __init__(self, rig: Brewery) -> None:
        super().__init__(name="writer")
        self._rig = rig
        self._end = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        with self._rig.attach(writer="flow", timeout_s=30.0) as plant:
            due = time.monotonic()
            while not self._end.is_set():
                number = self.acknowledged + 1
                plant.publish(plant.samples(TAGS, [float(number)] * len(TAGS)), timeout_s=30.0)
                self.acknowledged = number
                due = max(due + 1 / BATCHES_S, time.monotonic() - 1.0)
                self._end.wait(max(0.0, due - time.monotonic()))

    def end(self) -> int:
        self._end.set()
        self.join()
        return self.acknowledged


def outages(plant: tagwerk.Plant) -> list[Event]:
    found = plant.call("events/0", GetEvents(limit=1_000), 5.0)
    assert isinstance(found, EventList)
    return [event for _, event in found.events if event.kind == "history_database"]


def stored(plant: tagwerk.Plant) -> int:
    """How many samples history has; -1 while its database is not there."""
    try:
        state = plant.call("historian/0", GetHistorianState(), 5.0)
    except (Refused, Unavailable):
        return -1
    assert isinstance(state, HistorianState)
    return state.rows


def check_once(plant: tagwerk.Plant, count: int) -> None:
    wait_for("all in history", lambda: stored(plant) >= count * len(TAGS), 120)
    want = np.arange(1, count + 1, dtype=float)
    for tag in TAGS[::9]:
        found = plant.history([tag], 0, time.time_ns() + 10**12)[tag].values
        measured = found[~np.isnan(found)]  # the end of the writer is a gap
        assert np.array_equal(measured, want), f"{tag}: lost, doubled or out of order"


def _past(moment_s: float) -> bool:
    return time.monotonic() >= moment_s


def strike(rig: Brewery, server: Server, down_s: float) -> None:
    """The database goes for some seconds, and the historian dies twice meanwhile."""
    with rig.attach(timeout_s=20.0) as plant:
        writer = Writer(rig)
        writer.start()
        try:
            wait_for("history moves", lambda: stored(plant) > 1_000, 30)
            server.stop(signal.SIGQUIT)  # as a crash: whoever waits for a commit does not get its answer
            begun = time.monotonic()
            for part in (0.3, 0.6):
                wait_for("time", partial(_past, begun + part * down_s), down_s + 30)
                before = rig.kill("historian/0")
                wait_for("historian again", partial(rig.reborn, "historian/0", before), 30)
                assert stored(plant) == -1
            with pytest.raises(Refused, match="the database of history is not there"):
                plant.history([TAGS[0]], 0, 1)
            wait_for("time", partial(_past, begun + down_s), down_s + 30)
            server.start()
            at_start = writer.acknowledged
            wait_for("history goes on", lambda: stored(plant) > at_start * len(TAGS), 120 + down_s)
        finally:
            count = writer.end()
        check_once(plant, count)
        wait_for("the event", lambda: len(outages(plant)) > 0, 20)
        [event] = outages(plant)
        assert (event.before, event.after) == ("down", "up")


def test_a_database_that_is_down_and_a_historian_that_dies_cost_nothing(rig: Brewery, server: Server) -> None:
    strike(rig, server, 3.0)


@pytest.mark.long
def test_the_same_for_ten_minutes(rig: Brewery, server: Server) -> None:
    strike(rig, server, 600.0)
