"""Parts of history in PostgreSQL that need no server: names, the form of rows, and the note of an outage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from tagwerk.actors.historian.postgres.binary import fixed_rows, row
from tagwerk.actors.historian.postgres.outage import FILE, Outage, OutageFile
from tagwerk.actors.historian.postgres.schema import schema_name


def test_a_schema_is_named_like_its_plant_and_never_like_that_of_another() -> None:
    assert schema_name("brewery_2") == "tagwerk_brewery_2"
    names = ["Brewery_2", "brewery 2", "brewery-2", "bräu", '"; DROP', "x" * 100, "x" * 99, ""]
    made = [schema_name(name) for name in names]
    assert len({*made, "tagwerk_brewery_2"}) == len(names) + 1
    assert all(len(name) <= 63 and name.replace("_", "").isalnum() and name.isascii() for name in made)


def test_columns_become_the_rows_that_copy_takes() -> None:
    numbers, reals = np.array([1, -2], ">i8"), np.array([0.5, np.inf], ">f8")
    one_by_one = [row((struct.pack(">q", n), None, struct.pack(">d", r))) for n, r in ((1, 0.5), (-2, np.inf))]
    assert fixed_rows((numbers, None, reals)) == b"".join(one_by_one)


def test_an_outage_is_remembered_until_it_was_told(tmp_path: Path) -> None:
    file = OutageFile(tmp_path)
    assert file.outage is None
    file.begin(7, "it hangs")
    file.begin(9, "it is down")
    assert OutageFile(tmp_path).outage == file.outage == Outage(7, "it hangs")
    file.end()
    assert OutageFile(tmp_path).outage is None
    (tmp_path / FILE).write_text("{")
    assert OutageFile(tmp_path).outage == Outage(0, "a note of an outage cannot be read")


def test_an_outage_without_room_for_a_note_is_remembered_by_who_lives(tmp_path: Path) -> None:
    file = OutageFile(tmp_path / "gone")
    file.begin(7, "it hangs")
    assert file.outage == Outage(7, "it hangs")
    file.end()
