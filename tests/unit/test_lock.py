from __future__ import annotations

import os
from pathlib import Path

import pytest

from tagwerk.runtime.clock import ManualClock
from tagwerk.runtime.incarnation import next_incarnation
from tagwerk.runtime.lock import ActorLock, Holder, Locked, is_held
from tagwerk.runtime.process import Identity


def test_a_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "cvt-0.lock"
    lock = ActorLock.take(path, "cvt/0")
    assert ActorLock.holder(path) == Holder(Identity.own(), "cvt/0")
    with pytest.raises(Locked, match=f"cvt/0, pid {os.getpid()}") as caught:
        ActorLock.take(path, "cvt/0")
    assert caught.value.holder == Holder(Identity.own(), "cvt/0")
    assert is_held(path)
    lock.release()
    assert not path.exists()
    assert not is_held(path)
    ActorLock.take(path, "cvt/0").release()


def test_what_a_dead_holder_left_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "cvt-0.lock"
    path.write_text("1 1 cvt/0 and more than the next one writes\n")
    assert not is_held(path)
    lock = ActorLock.take(path, "x/0")
    assert path.read_text().split()[2:] == ["x/0"]
    lock.release()


def test_a_file_that_was_removed_meanwhile_locks_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "cvt-0.lock"
    first = ActorLock.take(path, "cvt/0")
    path.unlink()
    second = ActorLock.take(path, "cvt/0")
    assert is_held(path)
    second.release()
    first.release()


def test_a_holder_that_has_not_written_itself_in_is_nobody_yet(tmp_path: Path) -> None:
    path = tmp_path / "cvt-0.lock"
    lock = ActorLock.take(path, "cvt/0")
    path.write_text("")
    with pytest.raises(Locked, match="not written its pid") as caught:
        ActorLock.take(path, "cvt/0")
    assert caught.value.holder is None
    lock.release()


def test_incarnations_rise_by_one(tmp_path: Path) -> None:
    clock = ManualClock(now_ns=1_800_000_000 * 10**9)
    assert [next_incarnation(tmp_path, clock) for _ in range(3)] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["incarnation"]


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"-5", b"3x", b"99999999999999999999", "٣".encode()])
def test_an_unreadable_incarnation_jumps_forward(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(now_ns=1_800_000_000 * 10**9)
    (tmp_path / "incarnation").write_bytes(content)
    assert next_incarnation(tmp_path, clock) == 1_800_000_000 << 20
    assert next_incarnation(tmp_path, clock) == (1_800_000_000 << 20) + 1
    assert "jumps" in caplog.text


def test_a_lost_incarnation_beside_other_state_jumps_too(tmp_path: Path) -> None:
    clock = ManualClock(now_ns=1_800_000_000 * 10**9)
    (tmp_path / "journal").mkdir()
    assert next_incarnation(tmp_path, clock) == 1_800_000_000 << 20


def test_a_first_start_that_died_while_writing_is_still_the_first(tmp_path: Path) -> None:
    (tmp_path / "incarnation.new").write_text("")
    assert next_incarnation(tmp_path, ManualClock()) == 1
