from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime import snapshot
from tagwerk.runtime.journal import Position
from tagwerk.runtime.snapshot import Snapshot, hold_snapshot, kept_after, read_snapshot, settle_snapshot, write_snapshot


def place(n: int) -> Position:
    return Position(99, 3, n)


def settled(path: Path, n: int, payload: bytes) -> None:
    write_snapshot(path, place(n), [payload])
    hold_snapshot(path)
    settle_snapshot(path)


def test_the_newest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.snapshot"
    assert read_snapshot(path) is None
    write_snapshot(path, place(1), [b"ab", memoryview(b"c")])
    assert read_snapshot(path) == Snapshot(place(1), b"abc")
    write_snapshot(path, place(2), [])
    assert read_snapshot(path) == Snapshot(place(2), b"")


def test_only_what_is_on_the_disk_lets_the_journal_go(tmp_path: Path) -> None:
    path = tmp_path / "table.snapshot"
    write_snapshot(path, place(5), [b"x"])
    assert kept_after(path) is None
    hold_snapshot(path)
    write_snapshot(path, place(8), [b"y"])
    assert kept_after(path) is None
    settle_snapshot(path)
    assert kept_after(path) == place(5)
    path.unlink()
    assert read_snapshot(path) == Snapshot(place(5), b"x")
    settled(path, 9, b"z")
    assert kept_after(path) == place(9)


@pytest.mark.parametrize("damage", ["cut", "flip_payload", "flip_header", "empty"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "table.snapshot"
    settled(path, 1, b"older")
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


def test_one_of_a_newer_version_is_refused_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.snapshot"
    settled(path, 1, b"older")
    monkeypatch.setattr(snapshot, "_LAYOUT", 7)
    write_snapshot(path, place(2), [b"newer"])
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="newer version") as refused:
        read_snapshot(path)
    assert (refused.value.value, refused.value.expected) == ("7", "1")
