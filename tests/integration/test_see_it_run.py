"""The example plant, as its users meet it: real processes, real sockets, a real OPC UA server."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brewery import EXAMPLE, Brewery, free_port, wait_for
from workshop_rig import run as order

import tagwerk
from tagwerk.protocols import quality as q
from tagwerk.protocols.history import GetHistorianState, HistorianState
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters

pytestmark = pytest.mark.slow

KETTLE = "brewhouse.kettle.temperature"
SETPOINT = "brewhouse.kettle.setpoint"


@pytest.fixture(scope="module")
def brewery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    running = Brewery.start(tmp_path_factory.mktemp("brew"))
    yield running
    running.stop()


def run(brewery: Brewery, *words: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tagwerk.runtime.cli", "--home", str(brewery.home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


def good(plant: tagwerk.Plant, tag: str) -> bool:
    return plant.read(tag).good


def fault(plant: tagwerk.Plant, name: str, value: Any) -> None:
    plant.write(f"brewhouse.faults.{name}", value, reason="test")


def test_status_shows_every_actor_running(brewery: Brewery) -> None:
    done = run(brewery, "--json", "status")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["state"] for row in rows} == {"RUNNING"}, rows
    assert {"plant/0", "cvt/0", "cvt/1", "opcua/plc", "machine/mash", "external/plc", "node/main"} <= {
        row["name"] for row in rows
    }


def test_a_written_value_is_read_back_from_the_plc(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        wait_for("a good setpoint", lambda: good(plant, SETPOINT))
        done = run(brewery, "--json", "write", SETPOINT, "65")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["value"] == 65.0
        wait_for("the sample", lambda: plant.read(SETPOINT).value == 65.0)
        done = run(brewery, "write", SETPOINT, "150 degF")
        assert done.returncode == 0, done.stderr
        wait_for("the converted one", lambda: abs(float(plant.read(SETPOINT).value or 0) - 65.556) < 0.01)


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        (("write", "brewhouse.ketle.setpoint", "65"), 1, "brewhouse.ketle.setpoint"),
        (("write", KETTLE, "65"), 1, KETTLE),
        (("write", SETPOINT, "warm"), 1, SETPOINT),
        (("write", SETPOINT, "5000"), 1, SETPOINT),
        (("read", "no.such.tag"), 1, "no.such.tag"),
        (("alarms", "ack", "no.such.alarm"), 1, "no.such.alarm"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    brewery: Brewery, words: tuple[str, ...], code: int, names: str
) -> None:
    done = run(brewery, *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert names in done.stderr
    assert "Traceback" not in done.stderr


def test_watch_streams(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        seen: set[str] = set()
        watch = plant.watch("brewhouse.*.temperature", mode="every")
        plant.write(SETPOINT, 75.0)  # at rest it stays in its deadband

        def changes() -> bool:
            batch = watch.get(1)
            if batch is not None and not batch.snapshot:
                seen.update(batch.names)
            return KETTLE in seen

        wait_for("changes", changes)


def test_ten_lines_of_a_script(brewery: Brewery) -> None:
    start_ns = time.time_ns()
    with brewery.attach(writer="lab") as plant:
        times = start_ns + 1_000 * (1 + np.arange(1_000))
        plant.publish(plant.samples("lab.probe0", [float(i) for i in range(1_000)], times))
        assert plant.read("lab.probe0").value == 999.0
        found = plant.history("lab.probe0", start_ns, time.time_ns() + 10**9)["lab.probe0"]
        assert found.values.tolist() == [float(i) for i in range(1_000)]


def test_a_fault_raises_its_alarm_and_it_is_acknowledged(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        wait_for("a good estop", lambda: good(plant, "brewhouse.estop"))
        fault(plant, "estop_pressed", True)
        wait_for("the alarm", lambda: plant.alarms(names=["estop"])[0].letter == "B")
        done = run(brewery, "alarms", "ack", "estop", "--comment", "seen")
        assert done.returncode == 0, done.stderr
        assert plant.alarms(names=["estop"])[0].letter == "C"
        brewery_before = brewery.kill("alarms/0")
        wait_for("the alarms back", lambda: brewery.reborn("alarms/0", brewery_before))
        kept = plant.alarms(names=["estop"])[0]
        assert (kept.active, kept.acked, kept.comment) == (True, True, "seen")
        fault(plant, "estop_pressed", False)
        wait_for("normal", lambda: plant.alarms(names=["estop"])[0].letter == "A")
        wait_for("the event", lambda: any(e["kind"] == "ack" and e["target"] == "estop" for e in events(brewery)))


def events(brewery: Brewery) -> list[dict[str, Any]]:
    done = run(brewery, "--json", "events")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def machine(brewery: Brewery) -> dict[str, Any]:
    done = run(brewery, "--json", "machine", "show", "mash")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_the_mash_schedule_steps_with_confirms(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        wait_for("the machine ready", lambda: "start" in machine(brewery)["events"], 40)
        assert run(brewery, "machine", "set", "mash", "rest_1_min", "1").returncode == 0
        assert run(brewery, "machine", "send", "mash", "start").returncode == 0
        wait_for("the first setpoint", lambda: plant.read("brewhouse.mash.setpoint").value == 52.0)
        wait_for("the first rest over", lambda: "confirm" in machine(brewery)["events"], 90)
        assert run(brewery, "machine", "send", "mash", "confirm").returncode == 0
        wait_for("the second setpoint", lambda: plant.read("brewhouse.mash.setpoint").value == 63.0)
        assert run(brewery, "machine", "send", "mash", "abort").returncode == 0
        wait_for("safe outputs", lambda: plant.read("brewhouse.mash.setpoint").value not in (52.0, 63.0))
        refused = run(brewery, "machine", "send", "mash", "confirm")
        assert refused.returncode == 1, refused.stdout


PITCH = """Struct Degrees
    degc: number
End
Task productionTask
    pitch
        In
            Degrees {"degc": DEGC}
End
Task pitch
    In
        wanted: Degrees
    Pitch
        In
            ResourceAssignment {"job_resource": "opc.tcp://127.0.0.1:PORT"}
            wanted.degc
        Out
            beer_degc: number
End
"""


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_phase_of_a_batch_is_a_resource_as_a_script(brewery: Brewery) -> None:
    port = free_port()
    with brewery.attach() as plant:
        degc = round(float(str(plant.read("cellar.fermenter1.temperature").value)), 1)
        script = subprocess.Popen(
            [sys.executable, "phases.py", "cellar", str(port)],
            cwd=EXAMPLE, env={**os.environ, "TAGWERK_HOME": str(brewery.home)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for("it to listen", lambda: script.poll() is None and listens(port))
            found = order(PITCH.replace("PORT", str(port)).replace("DEGC", str(degc)))
            assert (found.state, found.reason) == ("FINISHED", "")
            assert plant.read("cellar.fermenter1.setpoint").value == pytest.approx(degc, abs=0.01)
        finally:
            script.kill()
            script.wait(20)


def test_history_as_csv(brewery: Brewery) -> None:
    done = run(brewery, "history", KETTLE, "--last", "1m", "--csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows, done.stdout
    assert list(rows[0]) == ["time", "tag", "value", "unit", "quality"]
    assert {row["tag"] for row in rows} == {KETTLE}
    assert rows == sorted(rows, key=lambda row: row["time"])


def test_each_actor_is_killed_in_turn_and_nothing_is_lost(brewery: Brewery) -> None:
    names = [name for name in brewery.names() if not name.startswith("external/")]
    acknowledged: list[tuple[float, int]] = []
    stop = threading.Event()
    start_ns = time.time_ns()

    def write() -> None:
        with brewery.attach(writer="kills", timeout_s=30) as plant:
            due = time.monotonic()
            while not stop.is_set():
                batch = plant.samples("lab.probe5", [float(len(acknowledged))])
                plant.publish(batch)
                acknowledged.append((float(batch.values[0]), int(batch.times[0])))
                due = max(due + 0.001, time.monotonic() - 1.0)  # 1,000 samples/s
                time.sleep(max(0.0, due - time.monotonic()))

    writer = threading.Thread(target=write)
    writer.start()
    with brewery.attach(timeout_s=20) as plant:
        watch = plant.watch("lab.probe5", mode="every")
        for name in names:
            count = len(acknowledged)
            wait_for("the writer to go on", partial(grown, acknowledged, count + 50))
            before = brewery.kill(name)
            wait_for(f"{name} back", partial(brewery.reborn, name, before))
            plant.query(name, GetDeadLetters(), DeadLetters)
        stop.set()
        writer.join(60)
        assert not writer.is_alive()
        last = acknowledged[-1][0]
        seen: list[float] = []

        def caught_up() -> bool:
            batch = watch.get(1)
            if batch is not None and batch.values is not None:
                seen.extend(batch.values.tolist())
            return bool(seen) and seen[-1] == last

        wait_for("the watcher in step", caught_up)
        found = plant.history("lab.probe5", start_ns, time.time_ns() + 10**9)["lab.probe5"]
        stored = [pair for pair in zip(found.values.tolist(), found.times.tolist(), strict=True) if pair[0] == pair[0]]
        assert len(stored) == len(set(stored)), "doubled"
        assert not set(acknowledged) - set(stored), "lost"
        state = plant.query("historian/0", GetHistorianState(), HistorianState)
        assert state.rows >= len(acknowledged)


def grown(things: Sequence[object], size: int) -> bool:
    return len(things) > size


def test_a_machine_that_is_gone_leaves_safe_values(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        wait_for("the machine running", lambda: machine(brewery)["running"] or resume(brewery), 40)
        wait_for("start to be allowed", lambda: "start" in machine(brewery)["events"] or reset(brewery), 20)
        assert run(brewery, "machine", "send", "mash", "start").returncode == 0
        wait_for("the first setpoint", lambda: plant.read("brewhouse.mash.setpoint").value == 52.0)
        lease_s = float(machine(brewery)["lease_s"])
        # Frozen, not ended: nobody says goodbye for it, and the node needs longer than the lease to notice.
        before = brewery.kill("machine/mash", signal.SIGSTOP)
        wait_for("the safe setpoint", lambda: plant.read("brewhouse.mash.setpoint").value == 20.0, lease_s + 5)
        os.kill(before.pid, signal.SIGKILL)
        wait_for("the machine back", lambda: brewery.reborn("machine/mash", before))
        time_ns = time.time_ns()
        wait_for("it waits", lambda: not machine(brewery)["running"])
        assert plant.read("brewhouse.mash.setpoint").value == 20.0, time_ns


def resume(brewery: Brewery) -> bool:
    if "resume" in machine(brewery)["events"]:
        run(brewery, "machine", "send", "mash", "resume")
    return False


def reset(brewery: Brewery) -> bool:
    for event in ("abort", "reset"):
        if event in machine(brewery)["events"]:
            run(brewery, "machine", "send", "mash", event)
    return False


def test_a_late_write_is_not_done(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        wait_for("the count", lambda: good(plant, "plc.write_count"))
        brewery.ask_node("stop", "machine/mash")
        try:
            time_s = wait_quiet(plant)
            count = plant.read("plc.write_count").value
            link = brewery.kill("opcua/plc", signal.SIGSTOP)
            try:
                done = run(brewery, "--timeout", "1", "write", SETPOINT, "61")
            finally:
                os.kill(link.pid, signal.SIGCONT)
            assert done.returncode in (3, 4), (done.stdout, done.stderr)
            # It is alive again and has looked at its mail: a new write is done, the late one was not.
            wait_for("writing again", lambda: can_write(plant))
            assert plant.read(SETPOINT).value == 62.0
            wait_for("the count", lambda: plant.read("plc.write_count").value == int(count or 0) + 1)
            assert time_s >= 0
        finally:
            brewery.ask_node("start", "machine/mash")


def can_write(plant: tagwerk.Plant) -> bool:
    try:
        return plant.write(SETPOINT, 62.0).value == 62.0
    except (tagwerk.NotSent, tagwerk.Refused):
        return False


def wait_quiet(plant: tagwerk.Plant) -> float:
    """Until the leases of the stopped machine are settled: the count stands for a second."""
    started = time.monotonic()
    last, since = plant.read("plc.write_count").value, time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        now = plant.read("plc.write_count").value
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 1.0

    wait_for("no more writes", quiet)
    return time.monotonic() - started


def test_the_plc_is_killed_and_comes_back(brewery: Brewery) -> None:
    with brewery.attach() as plant:
        tags = [tag.name for tag in plant.definitions("*") if tag.source == "opcua/plc"]
        wait_for("all tags good", lambda: all(value.good for value in plant.read_many(tags)))
        before = brewery.peer("external/plc")
        brewery.ask_node("stop", "external/plc")
        lost_ns = time.time_ns()
        wait_for(
            "all tags bad",
            lambda: all(value.quality & q.CODE_MASK == q.BAD_NO_COMMUNICATION for value in plant.read_many(tags)),
            10,
        )
        assert time.time_ns() - lost_ns < 3 * 10**9
        gone = plant.read(KETTLE)
        assert gone.value is not None, "the last value stays visible"
        assert abs(gone.time_ns - lost_ns) < 3 * 10**9, "with the time of the loss"
        brewery.ask_node("start", "external/plc")
        wait_for("the PLC", lambda: brewery.peer("external/plc").pid != before.pid)
        wait_for("all tags good again", lambda: all(value.good for value in plant.read_many(tags)), 30)


def test_help_and_version() -> None:
    for words in (["--help"], ["write", "--help"], ["version"]):
        done = subprocess.run([sys.executable, "-m", "tagwerk.runtime.cli", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_nothing_runs_in_an_empty_home(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tagwerk.runtime.cli", "--home", str(tmp_path), "read", KETTLE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
