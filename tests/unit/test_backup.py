"""Backup of a plant at work, and its restore: of one moment, exactly once, and known for what it is when half done."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from consumer_rig import Rig, running

from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.store import Store
from tagwerk.protocols.alarms import AckAlarm, AlarmAcked
from tagwerk.protocols.errors import ConfigError, Refused, Unavailable
from tagwerk.protocols.message import Done
from tagwerk.protocols.plantwide import HoldStill
from tagwerk.protocols.samples import ValueType, make
from tagwerk.runtime.backup import making
from tagwerk.runtime.backup.holds import Holds, LetGo, NoHolds
from tagwerk.runtime.backup.making import Backup, Progress
from tagwerk.runtime.backup.manifest import DATA, FILE, UNFINISHED, load, save
from tagwerk.runtime.backup.restoring import restore
from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.home import RESTORED, RESTORING, Home

PLANT = """
[alarm.hot]
tag = "s0.t"
type = "HI"
limit = 80.0
"""
HOLDERS = ("events/0", "historian/0", "cvt/0", "cvt/1")


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power cut is played here, and a hundred syncs would take seconds."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


class Busy:
    """Holds of a plant that goes on: between any two pieces that are copied, something happens."""

    def __init__(self, rig: Rig, happens: Callable[[], None]) -> None:
        self._rig = rig
        self._happens = happens
        self._renews = False

    def take(self) -> None:
        self._ask(30.0)
        self._renews = True

    def renew(self) -> None:
        self._happens()

    def prove(self) -> None:
        for actor in HOLDERS:
            answer = self._rig.ask(actor, HoldStill("test", 30.0, renew=True))
            if not isinstance(answer, Done):
                raise LetGo(f"{actor}: {answer}")

    def release(self) -> None:
        self._ask(0.0)

    def _ask(self, lease_s: float) -> None:
        for actor in HOLDERS:
            assert self._rig.ask(actor, HoldStill("test", lease_s)) == Done()


def back_up(home: Home, target: Path, holds: Holds | None = None, progress: Progress | None = None) -> None:
    Backup(home, target, holds or NoHolds(), online=holds is not None, progress=progress or Progress()).make()


def bring_back(target: Path, home: Home, progress: Progress | None = None) -> None:
    restore(target, home, ManualClock(1_800_000_000_000_000_000, 0), progress or Progress())


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with running(tmp_path, monkeypatch, PLANT) as rig:
        yield rig


# --- a plant at work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["", "historian/0", "alarms/0", "events/0", "cvt/0"])
def test_what_is_restored_is_whole_and_of_one_moment(rig: Rig, tmp_path: Path, dies: str) -> None:
    writer = rig.writer()
    values = [float(number % 100) for number in range(10_000)]  # an alarm comes and goes each hundred
    count = acked = 0

    def publish() -> None:
        nonlocal count
        for shard in range(2):
            rig.publish(writer, shard, values[count])
        count += 1

    def happens() -> None:
        nonlocal dies, acked
        for _ in range(7):
            publish()
        rig.run(0.3)
        rig.actors["historian/0"]._store.seal_all()  # type: ignore[attr-defined]
        if isinstance(rig.ask("alarms/0", AckAlarm("hot", by="me", comment=str(count))), AlarmAcked):
            acked += 1
        if dies and count > 200:
            rig.kill(dies)
            rig.start(dies)
            dies = ""

    for _ in range(130):
        publish()
    happens()
    before = count
    back_up(rig.home, tmp_path / "backup", Busy(rig, happens))
    rig.run(1.0)
    lost = rig.history(0)
    assert lost == values[:count]

    rig.close_actors()
    there = tmp_path / "there"
    bring_back(tmp_path / "backup", Home(there / "home"))
    again = Rig(there, PLANT)
    again.incarnation, again.clock = 1 << 62, rig.clock
    again.start("cvt/0", "cvt/1", "historian/0", "alarms/0", "events/0")
    again.run(2.0)
    for shard in range(2):
        found = again.history(shard)
        assert found == values[: len(found)]
        assert before <= len(found) < count
        assert again.state(shard).value == found[-1]
    stored = again.occurrences()
    assert len(stored) == len({one.occurrence for one in stored})
    assert sorted(one.raised_ns for one in stored) == sorted({one.raised_ns for one in stored})
    assert len(stored) == sum(1 for value in again.history(0) if value == 81.0)
    assert [event.kind for event in again.events() if event.kind not in ("ack", "clock")] == []
    comments = [event.reason for event in again.events("ack")]
    assert len(comments) == len(set(comments)) > 0
    assert {one.comment for one in stored if one.comment} == set(comments)
    # It goes on, as another life of the same plant.
    again.run(4.0)  # by then whoever published before is known to be lost
    anew = again.writer("writer/v")
    again.publish(anew, 0, 7.0)
    again.run(1.0)
    assert again.history(0)[-1] == 7.0
    again.close()


def test_a_hold_ends_when_nobody_renews_it_and_is_one_backups(rig: Rig) -> None:
    for actor in HOLDERS:
        assert rig.ask(actor, HoldStill("a", 1.0)) == Done()
        other = rig.ask(actor, HoldStill("b", 1.0))
        assert isinstance(other, Refused)
        assert other.code == "Conflict"
        assert rig.ask(actor, HoldStill("a", 1.0, renew=True)) == Done()
    rig.run(1.2)
    for actor in HOLDERS:
        late = rig.ask(actor, HoldStill("a", 1.0, renew=True))
        assert isinstance(late, Refused)
        assert late.code == "NotActive"
        assert rig.ask(actor, HoldStill("b", 1.0)) == Done()
        assert rig.ask(actor, HoldStill("b", 0.0)) == Done()
    historian: Any = rig.actors["historian/0"]
    assert historian._store.readings == 0


def test_a_shard_without_room_and_a_full_disk_end_the_hold(rig: Rig) -> None:
    shard, historian = (rig.actors[name] for name in ("cvt/0", "historian/0"))
    for actor in ("cvt/0", "historian/0"):
        assert rig.ask(actor, HoldStill("a", 60.0)) == Done()
    shard.journal._let_go()  # type: ignore[attr-defined]
    historian._disk._used_pct = lambda: 99.0  # type: ignore[attr-defined]
    historian._look_at_disk()  # type: ignore[attr-defined]
    for actor in ("cvt/0", "historian/0"):
        assert isinstance(rig.ask(actor, HoldStill("a", 60.0, renew=True)), Refused)


def test_a_plant_that_does_not_hold_still_is_not_backed_up(rig: Rig, tmp_path: Path) -> None:
    def happens() -> None:
        rig.kill("historian/0")
        rig.start("historian/0")

    with pytest.raises(Unavailable, match="did not hold still in 3 attempts"):
        back_up(rig.home, tmp_path / "backup", Busy(rig, happens))
    assert not (tmp_path / "backup").exists()


# --- a plant that is down --------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Some files as a plant leaves them."""
    home = Home(tmp_path / "home")
    home.data.mkdir(mode=0o700, parents=True)
    store = Store(home.actor_data("historian/0"))
    for time in range(3):
        with store.transaction():
            store.append(of_batches([make(ValueType.FLOAT, [1], [float(time)], time)]))
    store.seal_all()
    store.close()
    machine = home.actor_data("machine/mash")
    (machine / "incarnation").write_text("5\n")
    (machine / "notes.txt").write_bytes(os.urandom(3 << 20))
    (machine / "leases.msgpack").write_text("x")
    (machine / "half.tmp").write_text("x")
    (machine / "own.pem").write_text("secret")
    (machine / "own.pem").chmod(0o600)
    for path in home.data.rglob("*.db"):
        os.utime(path, (1_000_000_000, 1_000_000_000))  # at rest since long ago
    return home


def contents(home: Home) -> dict[str, bytes]:
    paths = (path for path in home.data.rglob("*") if path.is_file())
    return {str(path.relative_to(home.data)): path.read_bytes() for path in paths}


def test_files_come_back_as_they_were_private_and_as_another_life(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    manifest = load(tmp_path / "backup")
    assert not manifest.online
    assert not (tmp_path / "backup" / UNFINISHED).exists()
    there = Home(tmp_path / "there")
    bring_back(tmp_path / "backup", there)
    before, after = contents(home), contents(there)
    left_out = {"machine-mash/leases.msgpack", "machine-mash/half.tmp"}
    assert before.keys() - after.keys() == left_out
    assert after.keys() - before.keys() == {f"machine-mash/{RESTORED}"}
    assert after["machine-mash/notes.txt"] == before["machine-mash/notes.txt"]
    assert int(after["machine-mash/incarnation"]) > 1 << 40
    for root in (there.data, tmp_path / "backup"):
        for path in (root, *root.rglob("*")):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    store = Store(there.actor_data("historian/0"))
    past = Past(store, 1, ValueType.FLOAT)
    assert [value for part in past.parts(FIRST_NS, LAST_NS) for value in past.load(part).values] == [0.0, 1.0, 2.0]
    store.close()


def test_links_are_followed_or_refused_and_nothing_is_left_out(home: Home, tmp_path: Path) -> None:
    history, other = home.actor_data("historian/0"), tmp_path / "disk"
    before = contents(home)
    history.rename(other)
    history.symlink_to(other)
    with pytest.raises(ConfigError, match="cannot be a part"):
        back_up(home, other / "backup")
    back_up(home, tmp_path / "backup")
    bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    again = contents(Home(tmp_path / "there"))
    days = {name for name in before if name.startswith("historian-0")}
    assert len(days) == 2
    assert days <= again.keys()
    (other / "here").symlink_to(other)
    with pytest.raises(ConfigError, match="copied already"):
        back_up(home, tmp_path / "circle")
    (other / "here").unlink()
    (other / "catalog.db").rename(other / "else")
    (other / "catalog.db").symlink_to(other / "else")
    with pytest.raises(ConfigError, match="a file that is a link"):
        back_up(home, tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "disk", "home", "there"]


def test_what_lies_beside_a_store_of_a_plant_that_was_killed_is_in_its_copy(home: Home, tmp_path: Path) -> None:
    path = home.actor_data("alarms/0") / "alarms.db"
    alive = sqlite3.connect(path, isolation_level=None)
    alive.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (1);")
    back_up(home, tmp_path / "backup")
    alive.close()
    copy = sqlite3.connect(tmp_path / "backup" / DATA / "alarms-0" / "alarms.db")
    assert copy.execute("SELECT b FROM a").fetchall() == [(1,)]
    copy.close()


@pytest.mark.parametrize("early_bytes", [0, 1 << 30])
def test_what_was_sealed_after_the_catalog_was_copied_is_not_there_twice(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_bytes: int
) -> None:
    monkeypatch.setattr(making, "EARLY_BYTES", early_bytes)
    store = Store(home.actor_data("historian/0"))
    day_ns = 86_400 * 10**9

    def more(days: list[int]) -> None:
        with store.transaction():
            store.append(of_batches([make(ValueType.FLOAT, [1], [float(day)], day * day_ns + 5) for day in days]))

    steps: list[int] = []

    def meanwhile(_: NoHolds) -> None:
        if not steps:
            more([0, 3])  # a day that is known, and one that is not
            store.seal_all()
        steps.append(1)

    more([0, 1])
    monkeypatch.setattr(NoHolds, "renew", meanwhile)
    back_up(home, tmp_path / "backup")
    store.close()
    there = Home(tmp_path / "there")
    bring_back(tmp_path / "backup", there)
    copy = Store(there.actor_data("historian/0"))
    copy.seal_all()
    with copy.transaction():
        copy.append(of_batches([make(ValueType.FLOAT, [1], [9.0], 3 * day_ns + 6)]))
    copy.seal_all()  # with the numbers that the lost ones had
    past = Past(copy, 1, ValueType.FLOAT)
    found = [value for part in past.parts(FIRST_NS, LAST_NS) for value in past.load(part).values]
    assert found in ([0.0, 1.0, 2.0, 0.0, 1.0, 9.0], [0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 3.0, 9.0])
    copy.close()


# --- half of it ------------------------------------------------------------------------------------------------------


class Killed(Progress):
    """Kills its process at a step."""

    def __init__(self, step: int) -> None:
        self._left = step

    def begin(self, what: str, total_bytes: int) -> None:
        self.more(0)

    def more(self, count: int) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step: int, work: Callable[[Progress], None]) -> bool:
    """Do something in a process that is killed at a step; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Killed(step))
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_half_a_backup_is_no_backup_and_is_made_anew(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    step = 1
    while killed_at(step, lambda progress: back_up(home, target, None, progress)):
        with pytest.raises(ConfigError, match="is not finished"):
            load(target)
        with pytest.raises(ConfigError, match="is not finished"):
            bring_back(target, Home(tmp_path / "there"))
        assert not (tmp_path / "there").exists()
        step += 1
    assert step > 10
    bring_back(target, Home(tmp_path / "there"))
    with pytest.raises(ConfigError, match="a backup already"):
        back_up(home, target)


def test_half_a_restore_is_not_started_and_is_made_anew(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    there = Home(tmp_path / "there")
    step = 1
    while killed_at(step, lambda progress: bring_back(tmp_path / "backup", there, progress)):
        assert not there.data.exists()
        with pytest.raises(ConfigError, match="a restore is at work here, or was stopped"):
            there.create()
        step += 1
    assert step > 5
    assert not (there.root / RESTORING).exists()
    assert contents(there)["machine-mash/notes.txt"] == contents(home)["machine-mash/notes.txt"]
    with pytest.raises(ConfigError, match="there is a plant already"):
        bring_back(tmp_path / "backup", there)


def test_ctrl_c_leaves_nothing(home: Home, tmp_path: Path) -> None:
    class Stopped(Progress):
        def more(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(home, tmp_path / "backup", None, Stopped())
    assert not (tmp_path / "backup").exists()
    back_up(home, tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        bring_back(tmp_path / "backup", Home(tmp_path / "there"), Stopped())
    assert not (tmp_path / "there").exists()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_damaged_or_missing_file_is_named(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    path = tmp_path / "backup" / DATA / "machine-mash" / "notes.txt"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"damaged.*notes\.txt|notes\.txt.*damaged"):
        bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    path.unlink()
    with pytest.raises(ConfigError, match=r"notes\.txt") as missing:
        bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    assert "missing" in str(missing.value)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("left", ["UNFINISHED.tmp", "UNFINISHED"])
def test_what_one_that_was_killed_at_once_left_is_no_obstacle(home: Home, tmp_path: Path, left: str) -> None:
    target = tmp_path / "backup"
    target.mkdir()
    for name in {left, "UNFINISHED.tmp"}:
        (target / name).write_text("")
    back_up(home, target)
    assert sorted(path.name for path in target.iterdir()) == [DATA, FILE]


@pytest.mark.parametrize("change", [{"mode": "rwx"}, {"mode": "-7"}, {"bytes": -1}, {"path": "../x"}, {"path": "/x"}])
def test_a_list_of_files_that_somebody_has_forged_is_refused(
    home: Home, tmp_path: Path, change: dict[str, Any]
) -> None:
    back_up(home, tmp_path / "backup")
    manifest = load(tmp_path / "backup")
    forged = msgspec.structs.replace(manifest.files[0], **change)
    save(tmp_path / "backup", msgspec.structs.replace(manifest, files=(forged, *manifest.files[1:])))
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_pipe_in_a_backup_is_refused(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    notes = tmp_path / "backup" / DATA / "machine-mash" / "notes.txt"
    notes.unlink()
    os.mkfifo(notes)
    with pytest.raises(ConfigError, match="is no file"):
        bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_backup_of_nothing_is_refused(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    save(tmp_path / "backup", msgspec.structs.replace(load(tmp_path / "backup"), files=()))
    with pytest.raises(ConfigError, match="backup of nothing"):
        bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_backup_of_a_newer_version_is_refused_with_both(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    path = tmp_path / "backup" / FILE
    written = json.loads(path.read_text())
    for change, match in (
        ({"tagwerk": "99.1.0"}, r"tagwerk 99\.1\.0 .*this is"),
        ({"form": 2}, r"form 2.*form 1"),
        ({"made": "yesterday"}, "not what was written"),
        ({"files": [{**written["files"][0], "path": "../x"}]}, "not what was written"),
    ):
        path.write_text(json.dumps(written | change))
        with pytest.raises(ConfigError, match=match):
            bring_back(tmp_path / "backup", Home(tmp_path / "there"))
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        load(tmp_path / "backup")
    with pytest.raises(ConfigError, match="it is no backup"):
        load(tmp_path)


def test_a_place_that_is_none_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cannot be a part"):
        back_up(home, home.data / "backup")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ConfigError, match="holds mine"):
        back_up(home, tmp_path / "full")
    with pytest.raises(ConfigError, match="nothing to be backed up"):
        back_up(Home(tmp_path / "nobody"), tmp_path / "backup")
    status = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([*status[:4], 10, *status[5:]]))
    with pytest.raises(ConfigError, match="no room"):
        back_up(home, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "home"]
