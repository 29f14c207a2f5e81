"""A real shard under its node: killed while it is fed, killed with its writer, on a disk that takes no more."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from brewery import Brewery, wait_for
from delivery_rig import LEVEL, TEMP, Rig
from small_plant import start_plant

import tagwerk
from tagwerk.protocols.errors import NotJournaled, Refused, TagwerkError
from tagwerk.protocols.tags import JournalPage, ReadJournal
from tagwerk.runtime.durable import BIRTH, LOSS, SAMPLES

SHARD = "cvt/0"
TAGS = [f"shard.t{number}" for number in range(50)]
NAMELESS = """
import sys, time, tagwerk
from pathlib import Path
with tagwerk.attach(home=Path(sys.argv[1])) as plant:
    plant.publish(plant.samples(["shard.t0"], [float(sys.argv[2])]))
    print("published", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brewery]:
    plant = start_plant(tmp_path_factory.mktemp("shard"), [*(f"{name},float,false" for name in TAGS), "note,str,true"])
    yield plant
    plant.stop()


def pid_of(plant: Brewery) -> int:
    return int(plant.page.slot(SHARD).read().pid)


@pytest.mark.slow
def test_a_shard_killed_while_it_is_fed_keeps_each_sample_once(plant: Brewery) -> None:
    with tagwerk.attach(home=plant.home, writer="erp", timeout_s=20) as erp:
        start_ns = erp.samples(TAGS[1:2], [0.0]).times[0]
        for number in range(1, 301):
            if number % 100 == 50:
                os.kill(pid_of(plant), signal.SIGKILL)
            erp.publish(erp.samples(TAGS[1:], np.full(len(TAGS) - 1, float(number))))

        def stored() -> list[float]:
            found = erp.history([TAGS[1]], int(start_ns), 1 << 62)[TAGS[1]]
            return [] if found.values is None else found.values.tolist()

        wait_for("the last value in history", lambda: 300.0 in stored())
        assert stored() == [float(number) for number in range(1, 301)]


@pytest.mark.slow
def test_the_successor_of_a_killed_nameless_writer_owns_its_tags_at_once(plant: Brewery) -> None:
    for number in (1, 2, 3):
        command = [sys.executable, "-c", NAMELESS, str(plant.home), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            said = writer.stdout.readline()  # empty if its publish was refused
            writer.kill()
        assert said == b"published\n"


@pytest.mark.slow
def test_on_a_full_disk_it_lives_and_says_so(plant: Brewery) -> None:
    """Its files may not grow: what it journals fails as on a full disk, for real."""
    shard = psutil.Process(pid_of(plant))
    newest = max((plant.home / "data" / "cvt-0" / "journal").glob("*.seg"))  # it alone grows
    with tagwerk.attach(home=plant.home, writer="erp", timeout_s=20) as erp:
        shard.rlimit(psutil.RLIMIT_FSIZE, (newest.stat().st_size + 10, resource.RLIM_INFINITY))
        large = erp.samples(TAGS[1:] * 100, np.full(100 * (len(TAGS) - 1), 1_000.0))
        with pytest.raises(NotJournaled):
            erp.publish(large)
        with pytest.raises(NotJournaled):
            erp.write("note", "written on a full disk")
        assert erp.read("note").value == "written on a full disk"
        shard.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert pid_of(plant) == shard.pid

        def published() -> bool:
            try:
                erp.publish(erp.samples(TAGS[1:2], [5_000.0]))
            except TagwerkError:
                return False
            return True

        wait_for("room in the journal", published)
        os.kill(shard.pid, signal.SIGKILL)
        wait_for("its successor", lambda: pid_of(plant) not in (0, shard.pid))
        erp.publish(erp.samples(TAGS[1:2], [5_001.0]))
        assert erp.read("note").value == "written on a full disk"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, zmq=False)
    yield rig
    rig.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_hole_in_history_is_one_event_with_both_ends(rig: Rig, killed: bool) -> None:
    rig.shard()
    publisher = rig.client().publisher("erp")
    reborn: list[bool] = []
    publisher.on_reborn = lambda: reborn.append(True)
    rig.settle(publisher, TEMP, 1.0)
    rig.clock.advance(1)
    rig.disk.full = True
    assert rig.settle(publisher, TEMP, 2.0, 3.0).not_journaled
    rig.clock.advance(1)
    assert rig.settle(publisher, LEVEL, 4.0).not_journaled
    if killed:  # the table goes back to what is journaled, so what is owned has to be published again
        rig.kill()
        rig.shard()
        rig.until(lambda: reborn)
    rig.clock.advance(1)
    rig.disk.full = False
    rig.settle(publisher, TEMP, 5.0)
    page = rig.cvt.outbox.page(0, 100) if rig.cvt.outbox is not None else None
    assert page is not None
    holes = [event.reason for _, event in page.events if event.after == "journaled"]
    assert len(holes) == 1
    assert holes[0].startswith("3 samples from 2023-11-14T22:13:21")
    assert rig.values(LEVEL) == ([] if killed else [4.0])  # what is still current of the hole is in the journal again
    rig.settle(publisher, TEMP, 6.0)
    assert rig.values(TEMP) == [1.0, 5.0, 6.0]


def test_a_consumer_that_cannot_be_noted_is_refused_and_noted_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shard = rig.shard()
    monkeypatch.setattr("tagwerk.runtime.journal_consumers.write_whole", full)
    client = rig.client()
    for _ in range(2):
        client.ask(ReadJournal("historian/0", None), SHARD)
    rig.until(lambda: len(client.outcomes) == 2)
    assert all(isinstance(outcome, Refused) for outcome in client.outcomes)
    monkeypatch.undo()
    client.ask(ReadJournal("historian/0", None), SHARD)
    rig.until(lambda: len(client.outcomes) == 3)
    assert isinstance(client.outcomes[2], JournalPage)
    assert "historian/0" in (shard.journal._directory / "consumers.json").read_text()


@pytest.mark.parametrize("kind", [SAMPLES, BIRTH, LOSS])
@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x92\x01\xa3abc", b"\x92\x01\x91\x95\x01\xc4\x04\x01\x00\x00\x00\xc4\x00\xc4\x00\xc0"]
)
def test_a_record_that_is_none_does_not_keep_a_shard_from_starting(rig: Rig, kind: int, frame: bytes) -> None:
    shard = rig.shard()
    publisher = rig.client().publisher("erp")
    rig.settle(publisher, TEMP, 1.0)
    shard.journal.append(kind, "erp", 0, rig.clock.now_ns(), frame)
    shard.journal.commit()
    rig.settle(publisher, LEVEL, 2.0)
    rig.kill()
    shard = rig.shard()
    rows = shard.table.rows(np.array([TEMP, LEVEL], "<u4")).tolist()
    assert [shard.table.value(row) for row in rows] == [1.0, 2.0]
