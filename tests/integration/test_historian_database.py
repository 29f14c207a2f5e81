"""The historian as an actor whose store is a database that goes, hangs, comes back, and belongs to somebody else."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_historian_actor as contract
from postgres_server import Server, missing
from test_historian_actor import Rig, Shard, floats

from tagwerk.actors.events.actor import Events
from tagwerk.actors.historian.actor import Historian
from tagwerk.actors.historian.interface import StoreDown
from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.protocols.history import GetHistorianState, GetHistory, GetTable, GetTrend, HistorianState
from tagwerk.runtime.actor import Actor

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

# What a historian does whatever its store is, here with the fixtures of this file.
CONTRACT: tuple[Callable[..., None], ...] = (
    contract.test_what_was_acknowledged_before_a_question_is_in_the_answer,
    contract.test_a_killed_historian_goes_on_where_it_committed,
    contract.test_a_rule_leaves_out_the_same_however_often_the_historian_dies,
    contract.test_without_the_shard_the_answer_says_that_it_is_behind,
    contract.test_a_hole_and_a_broken_record_become_one_event_each,
    contract.test_the_event_of_a_hole_names_both_journals,
    contract.test_a_record_that_kills_twice_is_set_aside_alone,
    contract.test_an_event_is_fetched_after_an_outage_of_its_actor,
)
globals().update({test.__name__: test for test in CONTRACT})

LIMIT_S = 30.0
PLANT = '[plant]\nname = "tests"\n[history]\nstore = "{url}"\n'
SCHEMA = "tagwerk_tests"


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(one_server: Server) -> Server:
    """The server, up and without history."""
    import psycopg

    if one_server.process is None:
        one_server.start()
    with psycopg.connect(one_server.url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    return one_server


@pytest.fixture
def rig(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "rt").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "rt"))
    rig = Rig(tmp_path, PLANT.format(url=server.url))
    rig.start("client/0", Actor)
    yield rig
    for name in list(rig.running):
        rig.kill(name)


def until(rig: Rig, look: Callable[[], bool]) -> None:
    """Turn, with the plant's clock and the database's, until it is true."""
    deadline = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < deadline
        rig.turn(0.1)
        time.sleep(0.005)


def rows(rig: Rig) -> int:
    """Samples in the database; -1 while it is not there."""
    found = rig.ask("historian/0", GetHistorianState())
    return found.rows if isinstance(found, HistorianState) else -1


def test_samples_places_and_events_go_through_the_database(rig: Rig, server: Server) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.hole = (3, 9)
    shard.journaled(floats(1.0))
    shard.journaled(b"\xc1")
    assert rig.values() == [1.0]
    rig.kill("historian/0")
    shard.journaled(floats(2.0))
    rig.start("historian/0", Historian)
    assert rig.values() == [1.0, 2.0]
    assert shard.taken[-1].n == 3
    rig.turn(11.0)
    assert rig.events() == [("record_set_aside", "cvt/0", "2"), ("hole", "cvt/0", "9")]


def test_a_database_that_goes_is_one_event_and_costs_nothing(
    rig: Rig, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    rig.start("events/0", Events)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    server.stop(signal.SIGQUIT)
    shard.journaled(floats(2.0))
    rig.turn(5.0)
    questions = (GetHistory(1, 0, 2**62), GetTrend(1, 0, 2**62), GetTable(1, 0, 10, 1, ("value",)), GetHistorianState())
    for question in questions:
        refused = rig.ask("historian/0", question, 3.0)
        assert isinstance(refused, Refused)
        assert refused.code == "NoCommunication"
        assert "the database of history is not there" in str(refused)
    rig.kill("historian/0")  # who comes next knows since when it is owed
    rig.start("historian/0", Historian)
    rig.turn(2.0)
    assert shard.taken[-1].n == 1
    assert rig.events() == []
    server.start()
    until(rig, lambda: rows(rig) == 2)
    assert rig.values() == [1.0, 2.0]
    rig.turn(11.0)
    assert rig.events() == [("history_database", "historian/0", "up")]
    assert len([one for one in caplog.records if "waits in the journals" in one.message]) == 2, "once a life"
    for name, cls in (("historian/0", Historian), ("events/0", Events)):
        rig.kill(name)
        rig.start(name, cls)
    rig.turn(11.0)
    assert len(rig.events()) == 1


def test_an_outage_that_was_told_before_a_kill_is_not_told_again(rig: Rig, server: Server) -> None:
    rig.start("events/0", Events)
    rig.start("cvt/0", Shard)
    server.stop()
    rig.start("historian/0", Historian)
    note = rig.home.actor_data("historian/0") / "database-down.json"
    left = note.read_text()
    server.start()
    until(rig, lambda: rows(rig) == 0)
    assert not note.exists()
    rig.kill("historian/0")
    note.write_text(left)  # the kill came before it was removed
    rig.start("historian/0", Historian)
    assert not note.exists()
    rig.turn(11.0)
    assert rig.events() == [("history_database", "historian/0", "up")]


@pytest.mark.parametrize("arrived", [True, False])
def test_a_commit_without_an_answer_is_looked_up(rig: Rig, monkeypatch: pytest.MonkeyPatch, arrived: bool) -> None:
    from tagwerk.actors.historian.postgres.session import Session

    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    execute = Session.execute
    lost: list[int] = []

    def without_answer(session: Session, query: Any, given: Any = ()) -> None:
        if query == "COMMIT" and not lost:
            lost.append(1)
            if arrived:
                execute(session, query, given)
            session.close()
            raise StoreDown("the line is cut")
        execute(session, query, given)

    monkeypatch.setattr(Session, "execute", without_answer)
    shard.journaled(floats(2.0, 2.5))
    shard.journaled(floats(3.0))
    until(rig, lambda: bool(lost) and rows(rig) == 4)
    assert rig.values() == [1.0, 2.0, 2.5, 3.0]
    assert shard.taken[-1].n == 3


def test_a_database_that_hangs_holds_nobody_up_for_long(
    rig: Rig, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagwerk.actors.historian.postgres.session.ANSWER_S", 0.2)
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    assert rig.values() == [1.0]
    server.freeze()
    try:
        begun = time.monotonic()
        shard.journaled(floats(2.0))
        refused = rig.ask("historian/0", GetHistory(1, 0, 2**62), 3.0)
        assert isinstance(refused, Refused)
        assert time.monotonic() - begun < 4.0
        assert "did not answer in time" in str(refused)
        assert shard.taken[-1].n == 1
    finally:
        server.resume()
    until(rig, lambda: rows(rig) == 2)
    assert rig.values() == [1.0, 2.0]


def test_a_second_historian_waits_until_the_first_is_gone(
    rig: Rig, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tagwerk.actors.historian.postgres.opening import open_database

    first = open_database(server.url, SCHEMA, "chunks", [])
    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    shard.journaled(floats(1.0))
    refused = rig.ask("historian/0", GetHistory(1, 0, 2**62), 3.0)
    assert "another historian writes to the schema tagwerk_tests" in str(refused)
    assert "another historian writes" in caplog.text
    assert shard.taken == []
    first.store.close()
    until(rig, lambda: rows(rig) == 1)
    assert rig.values() == [1.0]


def test_a_database_that_was_restored_from_before_gets_what_the_journal_still_has(rig: Rig, server: Server) -> None:
    import psycopg

    shard: Shard = rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    for n in range(1, 4):
        shard.journaled(floats(float(n)))
    assert rig.values() == [1.0, 2.0, 3.0]
    server.stop(signal.SIGQUIT)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    until(rig, lambda: rows(rig) == 3)
    assert rig.values() == [1.0, 2.0, 3.0]


def test_a_database_of_a_newer_version_stops_the_historian(rig: Rig, server: Server) -> None:
    import psycopg

    rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    rig.kill("historian/0")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {SCHEMA}.about SET layout = 2")
    with pytest.raises(ConfigError, match=r"another layout \(got 2\); expected 1"):
        rig.start("historian/0", Historian)


def test_no_password_is_told(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rt").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "rt"))
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    rig = Rig(tmp_path, PLANT.format(url=server.url.replace("plant@", "nobody_such@")))
    rig.start("client/0", Actor)
    rig.start("cvt/0", Shard)
    rig.start("historian/0", Historian)
    refused = rig.ask("historian/0", GetHistory(1, 0, 2**62), 3.0)
    assert "nobody_such" in str(refused)
    files = [path for path in rig.home.root.rglob("*") if path.is_file()]
    assert files
    assert not any(b"s3cret" in path.read_bytes() for path in files)
    assert "s3cret" not in caplog.text + str(refused)
    for name in list(rig.running):
        rig.kill(name)
