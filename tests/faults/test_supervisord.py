"""A real supervisord over a small real plant: whichever of keeper, node and supervisord dies, it goes on whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

import tagwerk
from tagwerk.protocols.errors import TagwerkError
from tagwerk.protocols.plantwide import EventList, GetEvents
from tagwerk.runtime.home import Home
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.node_keeper import STABLE_S
from tagwerk.runtime.page import Page, PeerState, SlotView
from tagwerk.runtime.process import Identity
from tagwerk.runtime.supervisord_conf import write_supervisord_conf

pytestmark = pytest.mark.slow

DEADLINE_S = 40.0
ACTORS = ("plant/0", "events/0", "cvt/0", "historian/0", "alarms/0")
LOOKS_S = 2.2  # events and alarms look at the levels once a second
FATAL = "system.external/bad.fatal"
PLANT = """
[plant]
name = "small"
[node.main]
restarts = 1
period_s = 600.0
[tag."lab.count"]
[external.good]
command = ["sleep", "1000"]
[external.bad]
command = ["false"]
"""


class Supervised:
    """A small plant under supervisord."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home").create()
        plant = folder / "plant" / "plant.toml"
        plant.parent.mkdir()
        plant.write_text(PLANT)
        self.plant = plant
        self.conf = write_supervisord_conf(self.home, plant)
        self.supervisord = self.supervise()
        self.until(self.all_run)

    def supervise(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-s", "-c", str(self.conf)]
        self.supervisord = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        return self.supervisord

    def page(self) -> Page:
        return Page.open(self.home.file("node/main", "page"))

    def node(self) -> Identity:
        return self.page().node

    def node_age_s(self) -> float:
        started_ns = self.page().slot("node/main").read().started_mono_ns
        return (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - started_ns) / 1e9

    def keeper(self) -> psutil.Process:
        parent = psutil.Process(self.node().pid).parent()
        assert parent is not None
        return parent

    def kill(self, name: str) -> None:
        """Kill an actor or the node, and wait until all run again."""
        node = self.node()
        seen = self.page().slot(name).read()
        os.kill(seen.pid, signal.SIGKILL)
        self.until(lambda: self.page().slot(name).read().pid not in (0, seen.pid))
        self.until(lambda: self.replaced(node) if name == "node/main" else self.all_run())

    def views(self) -> list[SlotView]:
        page = self.page()
        return [page.slot(name).read() for name in ACTORS]

    def all_run(self) -> bool:
        page = self.page()
        peers = [page.look(name) for name in (*ACTORS, "external/good")]
        return page.node_is_alive() and all(peer is not None and peer.state is PeerState.RUNNING for peer in peers)

    def replaced(self, old: Identity) -> bool:
        return self.node() != old and self.all_run()

    @staticmethod
    def until(holds: Callable[[], bool]) -> None:
        began_s = time.monotonic()
        while True:
            try:
                if holds():
                    return
            except (TagwerkError, psutil.Error, FileNotFoundError):
                pass
            assert time.monotonic() - began_s < DEADLINE_S, "it does not come to hold"
            time.sleep(0.005)

    def attach(self, **options: str) -> tagwerk.Plant:
        return tagwerk.attach(home=self.home.root, timeout_s=DEADLINE_S, writer=options.get("writer"))

    def nobody_runs_twice(self) -> bool:
        """One keeper, one node, one process an actor; and one `sleep` an external program."""
        mine = [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if str(self.home.root) in (process.info["cmdline"] or []) and process.info["status"] != "zombie"
        ]
        kept = [process for process in mine if "tagwerk.runtime.node_keeper" in process.cmdline()]
        return len(kept) == 2 + len(ACTORS)

    def close(self) -> None:
        """Stop it, and see that all of it is gone."""
        keeper, page = self.keeper(), self.page()
        left = [page.node, *(Identity(view.pid, view.start_ticks) for view in self.views())]
        self.supervisord.terminate()
        assert self.supervisord.wait(DEADLINE_S) == 0
        assert not keeper.is_running()
        assert not [one for one in left if one.is_alive()]
        assert sorted(path.name for path in self.home.run.iterdir()) == ["supervisord.conf"]
        (self.home.run / "supervisord.conf").unlink()
        self.home.remove_run()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path_factory.mktemp("supervised"))
    yield supervised
    supervised.close()


class Counting:
    """A thread that publishes 0, 1, 2, ... and remembers what was acknowledged."""

    def __init__(self, plant: Supervised) -> None:
        self._plant = plant
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.acknowledged: list[float] = []

    def __enter__(self) -> Counting:
        self._thread.start()
        try:
            self._plant.until(lambda: len(self.acknowledged) > 20)
        except BaseException:
            self._stop.set()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        with self._plant.attach(writer="counter") as plant:
            while not self._stop.is_set():
                batch = plant.samples("lab.count", [float(len(self.acknowledged))])
                plant.publish(batch, timeout_s=DEADLINE_S)
                self.acknowledged.append(float(batch.values[0]))
                self._stop.wait(0.002)


def history(plant: Supervised, start_ns: int) -> list[float]:
    with plant.attach() as attached:
        samples = attached.history("lab.count", start_ns, time.time_ns() + 10**9)["lab.count"]
        return [float(row.value) for row in samples.rows() if row.good and row.value is not None]


@pytest.mark.parametrize("victim", ["node", "keeper", "supervisord"])
def test_history_is_whole_whoever_is_killed(plant: Supervised, victim: str) -> None:
    plant.until(lambda: plant.node_age_s() > STABLE_S)  # a younger one is left to supervisord
    start_ns = time.time_ns()
    node = plant.node()
    with Counting(plant) as counting:
        if victim == "node":
            os.kill(node.pid, signal.SIGKILL)
        elif victim == "keeper":
            plant.keeper().kill()
        else:
            plant.supervisord.kill()
            plant.supervisord.wait()
            count = len(counting.acknowledged)
            assert NodeCtl(plant.home).call("restart", "alarms/0").ok
            plant.until(lambda: len(counting.acknowledged) > count + 20)
            assert plant.node() == node, "without supervisord the plant runs on"
            plant.supervise()
        plant.until(lambda: plant.replaced(node))
        count = len(counting.acknowledged)
        plant.until(lambda: len(counting.acknowledged) > count + 20)
    plant.until(lambda: plant.nobody_runs_twice())
    assert not node.is_alive()
    assert plant.keeper().ppid() == plant.supervisord.pid
    plant.until(lambda: history(plant, start_ns)[-1:] == counting.acknowledged[-1:])
    assert history(plant, start_ns) == counting.acknowledged


def test_a_node_that_stands_still_is_ended_and_followed(tmp_path: Path) -> None:
    home, plant = Home(tmp_path / "home").create(), tmp_path / "plant.toml"
    plant.write_text('[plant]\nname = "still"\n[tag."lab.count"]\n')
    program = (
        "from pathlib import Path\nfrom tagwerk.runtime.home import Home\n"
        "from tagwerk.runtime.node_keeper import keep_node\n"
        f"raise SystemExit(keep_node(Home(Path({str(home.root)!r})), Path({str(plant)!r}), hang_after_s=2.0))"
    )
    keeper = subprocess.Popen([sys.executable, "-c", program])
    try:
        Supervised.until(lambda: runs(home))
        old = Page.open(home.file("node/main", "page")).node
        time.sleep(3.5)
        assert Page.open(home.file("node/main", "page")).node == old, "one that beats is left alone"
        os.kill(old.pid, signal.SIGSTOP)
        Supervised.until(lambda: runs(home) and Page.open(home.file("node/main", "page")).node != old)
        assert not old.is_alive()
    finally:
        keeper.terminate()
        assert keeper.wait(DEADLINE_S) == 0


def runs(home: Home) -> bool:
    page = Page.open(home.file("node/main", "page"))
    peers = [page.look(name) for name in ACTORS]
    return page.node_is_alive() and all(peer is not None and peer.state is PeerState.RUNNING for peer in peers)


def passed(at_s: float) -> bool:
    return time.monotonic() > at_s


def fatal_events(plant: Supervised) -> list[str]:
    with plant.attach() as attached:
        found = attached.call("events/0", GetEvents(target="external/bad"))
        assert isinstance(found, EventList)
        return [event.after for _, event in found.events if event.kind == "fatal"]


def fatal_alarms(plant: Supervised) -> list[tuple[str, bool]]:
    with plant.attach() as attached:
        return [(row.occurrence, row.active) for row in attached.alarms() if row.name == FATAL]


def test_one_trouble_is_one_event_and_one_alarm_whoever_is_killed(plant: Supervised) -> None:
    plant.until(lambda: len(fatal_events(plant)) == 1 and len(fatal_alarms(plant)) == 1)
    before = (fatal_events(plant), fatal_alarms(plant))
    for name in ("events/0", "alarms/0", "node/main"):
        plant.until(lambda: plant.node_age_s() > STABLE_S)
        plant.kill(name)
        plant.until(lambda: plant.page().slot("external/bad").read().state is PeerState.FATAL)
        looked_s = time.monotonic() + LOOKS_S
        plant.until(partial(passed, looked_s))
        assert (fatal_events(plant), fatal_alarms(plant)) == before
        assert plant.page().slot("external/bad").read().fatal_count == 1
