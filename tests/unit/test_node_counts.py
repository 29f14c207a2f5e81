from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tagwerk.runtime.node_counts import Count, Counts


def test_counts_outlive_their_writer(tmp_path: Path) -> None:
    path = tmp_path / "node-main.db"
    assert Counts(path).load() == {}
    assert Counts(path).save({"cvt/0": Count(3, 1, True), "alarms/0": Count(1)})
    assert Counts(path).save({"alarms/0": Count(2)})
    assert Counts(path).load() == {"cvt/0": Count(3, 1, True), "alarms/0": Count(2, 0, False)}


def test_the_file_of_an_earlier_version_keeps_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "node-main.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE count (actor TEXT PRIMARY KEY, restarts INT, fatals INT)")
        database.execute("INSERT INTO count VALUES ('cvt/0', 7, 2)")
    assert Counts(path).load() == {"cvt/0": Count(7, 2, False)}
    assert Counts(path).save({"cvt/0": Count(8, 3, True)})
    assert Counts(path).load() == {"cvt/0": Count(8, 3, True)}


def test_a_damaged_file_does_not_keep_the_plant_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "node-main.db"
    path.write_bytes(b"no database" * 100)
    assert Counts(path).load() == {}
    assert not Counts(path).save({"cvt/0": Count(1)})
    assert "cannot be read" in caplog.text
    assert "cannot be written" in caplog.text
