"""Thinning beside the store: what is held back over restarts, transactions that fail, and other rules."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tagwerk.actors.historian import rules as rules_module
from tagwerk.actors.historian.logic.arrived import of_batches
from tagwerk.actors.historian.logic.thinning import STATE
from tagwerk.actors.historian.past import FIRST_NS, LAST_NS, Past
from tagwerk.actors.historian.rules import Rules, rules_of
from tagwerk.actors.historian.store import CATALOG, Store, open_history
from tagwerk.protocols.samples import Samples, ValueType, make
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.plantfile_models import AlarmConfig

DOOR = TagDef(1, "a.door", "float", 0, log_compression_dev=1.0)
BAND = TagDef(2, "a.band", "float", 0, log_deadband=1.0)
PLAIN = TagDef(3, "a.plain", "float", 0)
S = 1_000_000_000


class House:
    """A store with rules, as the historian has them."""

    def __init__(self, path: Path, *tags: TagDef, alarms: dict[str, AlarmConfig] | None = None) -> None:
        self.store: Store = open_history(path)
        self.rules = Rules(self.store.catalog, rules_of(TagRows.of(tags), alarms or {}))
        self.store.newest = self.rules.newest

    def take(self, *batches: Samples, late: bool = False, fails: bool = False) -> None:
        came = of_batches(batches)
        try:
            with self.store.transaction():
                self.store.append(self.rules.take(came, np.full(len(came), late)))
                if fails:
                    raise sqlite3.OperationalError
        except sqlite3.OperationalError:
            return
        self.rules.settle()

    def times(self, tag: int, *, stored: bool = False) -> list[int]:
        past = Past(self.store, tag, ValueType.FLOAT)
        pieces = [past.load(part) for part in past.parts(FIRST_NS, LAST_NS)]
        times = [time // S for piece in pieces for time in piece.times.tolist()]
        return times[: len(times) - len(self.rules.newest(tag, ValueType.FLOAT))] if stored else times

    def close(self) -> None:
        self.store.close()


def batch(tag: int, *samples: tuple[int, float]) -> Samples:
    times = np.array([time for time, _ in samples]) * S
    return make(ValueType.FLOAT, [tag] * len(samples), [value for _, value in samples], times)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_held_back_is_read_as_the_newest_and_outlives_a_restart(
    tmp_path: Path, restart: bool, fails: bool
) -> None:
    house = House(tmp_path / "h", DOOR, BAND, PLAIN)
    course = [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0), (5, 9.0), (6, 9.1)]
    for number, (time, value) in enumerate(course, 1):
        batches = [batch(tag, (time, value)) for tag in (1, 2, 3)]
        if fails:
            house.take(*batches, fails=True)  # the same page comes again
        house.take(*batches)
        for tag in (1, 2):
            assert house.times(tag)[-1] == time
        assert len(house.times(3)) == number
        if restart:
            house.close()
            house = House(tmp_path / "h", DOOR, BAND, PLAIN)
    assert house.times(1, stored=True) == [1, 4, 5]  # lines from 1 to 4, and on to 5; none leads from 4 to 6
    assert house.times(1) == [1, 4, 5, 6]
    assert house.times(2) == [1, 2, 3, 4, 5, 6]
    assert house.times(2, stored=True) == [1, 2, 3, 4, 5]
    house.store.seal_all()
    assert house.times(2) == [1, 2, 3, 4, 5, 6]
    house.close()


def test_a_rule_that_is_gone_gives_back_what_it_held(tmp_path: Path) -> None:
    house = House(tmp_path / "h", DOOR)
    house.take(batch(1, (1, 0.0), (2, 0.5)))
    house.close()
    for tag in (TagDef(1, "a.door", "float", 0), TagDef(1, "a.door", "float", 0, log_compression_dev=2.0)):
        house = House(tmp_path / "h", tag)
        assert house.times(1) == [1, 2]
        house.take(batch(1), fails=True)
        house.take(batch(1))
        assert house.times(1, stored=True) == [1, 2]
        house.close()
        house = House(tmp_path / "h", DOOR)
        assert house.times(1, stored=True) == [1, 2]
        house.close()


def test_states_are_kept_whole_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "LOOSE_BYTES", 3 * STATE.itemsize)
    house = House(tmp_path / "h", DOOR, BAND)
    for time in range(1, 60):
        house.take(batch(1 + time % 2, (time, 0.1)))
        assert sum(map(len, house.store.catalog.thinning())) <= 11 * STATE.itemsize
    house.close()
    house = House(tmp_path / "h", DOOR, BAND)
    assert house.times(1) == [2, 58]
    assert house.times(2) == [1, 59]
    house.close()


def test_late_samples_and_alarm_limits_pass_every_rule(tmp_path: Path) -> None:
    alarms = {
        "high": AlarmConfig(tag="a.band", type="HI", limit=5.0, deadband=0.2),
        "low": AlarmConfig(tag="a.band", type="LO", limit=4.0),
    }
    house = House(tmp_path / "h", BAND, alarms=alarms)
    house.take(batch(2, (1, 4.7), (2, 4.9), (3, 5.1), (4, 5.2), (5, 4.9), (6, 4.79), (7, 4.3), (8, 4.2), (9, 3.99)))
    assert house.times(2, stored=True) == [1, 2, 3, 5, 6, 9]  # over 4.8, 5, and back
    house.take(batch(2, (0, 4.7), (5, 4.71)), late=True)
    assert house.times(2) == [0, 1, 2, 3, 5, 5, 6, 9]
    house.close()


def test_integers_that_a_double_does_not_tell_apart_are_kept(tmp_path: Path) -> None:
    house = House(tmp_path / "h", TagDef(4, "a.count", "int", 0, log_deadband=0.0))
    first = 1 << 60
    house.take(make(ValueType.INT, [4] * 5, [first, first + 1, first + 2, 7, 7], np.arange(5) * S))
    past = Past(house.store, 4, ValueType.INT)
    found = [value for part in past.parts(FIRST_NS, LAST_NS) for value in past.load(part).values.tolist()]
    assert found == [first, first + 1, first + 2, 7, 7]
    assert house.store.rows == 4  # the second 7 is held back
    house.close()


def test_a_catalog_without_rules_gets_them_after_a_copy(tmp_path: Path) -> None:
    house = House(tmp_path / "h", PLAIN)
    house.take(batch(3, (1, 1.0)))
    house.close()
    old = sqlite3.connect(tmp_path / "h" / CATALOG)
    old.executescript("DROP TABLE thinning; PRAGMA user_version = 2;")
    old.close()
    house = House(tmp_path / "h", DOOR, PLAIN)
    house.take(batch(1, (1, 1.0), (2, 1.0)), batch(3, (2, 1.0)))
    assert (house.times(1), house.times(3)) == ([1, 2], [1, 2])
    house.close()
    copy = sqlite3.connect(tmp_path / "h" / f"{CATALOG}.layout-2")
    assert copy.execute("PRAGMA user_version").fetchone() == (2,)
    assert copy.execute("SELECT rows FROM state").fetchone() == (1,)
    copy.close()
    assert (tmp_path / "h" / f"{CATALOG}.layout-2").stat().st_mode & 0o777 == 0o600
