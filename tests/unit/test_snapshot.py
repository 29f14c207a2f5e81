from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.runtime.journal import Position
from tagwerk.runtime.snapshot import Snapshot, kept_after, read_snapshot, write_snapshot


def place(n: int) -> Position:
    return Position(99, 3, n)


@pytest.mark.parametrize("sync", [True, False])
def test_the_newest_is_read(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "table.snapshot"
    assert read_snapshot(path) is None
    write_snapshot(path, place(1), [b"ab", memoryview(b"c")], sync=sync)
    write_snapshot(path, place(2), [], sync=sync)
    assert read_snapshot(path) == Snapshot(place(2), b"")
    assert read_snapshot(tmp_path / "table.snapshot.old") == Snapshot(place(1), b"abc")


def test_what_the_older_of_two_needs_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "table.snapshot"
    assert [write_snapshot(path, place(n), [b"x"]) for n in (5, 8, 9)] == [None, place(5), place(8)]
    assert kept_after(path) == place(8)
    path.unlink()
    assert kept_after(path) is None


@pytest.mark.parametrize("damage", ["cut", "flip_payload", "flip_header", "empty"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "table.snapshot"
    write_snapshot(path, place(1), [b"older"])
    write_snapshot(path, place(2), [b"newer"])
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-1]
    elif damage == "empty":
        content.clear()
    else:
        content[-1 if damage == "flip_payload" else 30] ^= 1
    path.write_bytes(content)
    assert read_snapshot(path) == Snapshot(place(1), b"older")


def test_a_torn_one_does_not_push_out_the_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "table.snapshot"
    write_snapshot(path, place(1), [b"older"])
    write_snapshot(path, place(2), [b"newer"])
    path.write_bytes(path.read_bytes()[:-1])
    write_snapshot(path, place(3), [b"newest"])
    path.unlink()
    assert read_snapshot(path) == Snapshot(place(1), b"older")
