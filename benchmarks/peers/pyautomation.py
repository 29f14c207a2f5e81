"""PyAutomation 2.8: one process, tags as objects, its store-and-forward journal before SQLite, alarms as observers.

`CVTEngine.set_value` as it ships, with an application that is up and has its database; then bare, with no observer on
the tag. Durability: SQLite, WAL, `synchronous` NORMAL, as it sets it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from typing import Any

import speak

ALARMS_LIMIT = 100
ROWS_LIMIT_S = 5.0


def main() -> None:
    """Measure; PyAutomation prints what it does, so that goes elsewhere."""
    sizes = speak.sizes()
    os.chdir(tempfile.mkdtemp())  # it keeps all its files below the current directory
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        rows = measure(sizes)
    speak.tell(rows)
    sys.stdout.flush()
    os._exit(0)  # its threads have no end


def measure(sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all rows."""
    from automation import PyAutomation
    from automation.tags.cvt import CVTEngine

    bare_tags = [f"B{number}" for number in range(10)]
    app = PyAutomation()
    cvt = CVTEngine()
    bare = [app.create_tag(name=name, unit="C", variable="Temperature")[0] for name in bare_tags]
    rows = [
        speak.row("single samples", "PyAutomation, bare: no observer", rate(cvt, bare, sizes["singles"]), "samples/s")
    ]
    app.set_db_config(dbtype="sqlite", dbfile="bench.db")
    app.safe_start(test=False, create_tables=True)
    if not app.is_db_connected():
        raise RuntimeError("PyAutomation has no database")
    tags = [app.create_tag(name=f"T{number}", unit="C", variable="Temperature")[0] for number in range(10)]
    alarmed, _ = app.create_tag(name="A", unit="C", variable="Temperature")
    alarm, why = app.create_alarm(name="hot", tag="A", alarm_type="HIGH", trigger_value=50.0)
    if alarm is None:
        raise RuntimeError(why)
    rows += speak.delays(
        "value to alarm active", "PyAutomation", alarms(cvt, alarmed, alarm, sizes["kills"] * 10), "ms"
    )
    shipped = rate(cvt, tags, min(sizes["singles"], 3_000))
    rows.append(speak.row("single samples", "PyAutomation, as it ships: with its journal", shipped, "samples/s"))
    rows.append(
        speak.row("rows into history", "PyAutomation to SQLite, logger every 1 s", logged(app, cvt, tags), "rows/s")
    )
    return rows


def rate(cvt: Any, tags: list[Any], count: int) -> float:
    """Values per second, set one after another."""
    which = itertools.cycle(tags)

    def one(number: int) -> None:
        cvt.set_value(id=next(which).id, value=float(number % 40), timestamp=datetime.now(UTC))

    return speak.per_second(count, one)


def alarms(cvt: Any, tag: Any, alarm: Any, count: int) -> list[float]:
    """From the call that sets a value past the limit until the alarm is active, ms."""
    found: list[float] = []
    for number in range(min(count, ALARMS_LIMIT)):
        cvt.set_value(id=tag.id, value=10.0 + number % 2, timestamp=datetime.now(UTC))
        time.sleep(0.01)
        began = time.perf_counter()
        cvt.set_value(id=tag.id, value=60.0 + number % 2, timestamp=datetime.now(UTC))
        speak.until(lambda: alarm.state.alarm_status == "Active", 5.0)
        found.append(1e3 * (time.perf_counter() - began))
    return found


def logged(app: Any, cvt: Any, tags: list[Any]) -> float:
    """Rows per second in the table of values, while there is always more than enough to write."""
    from automation.dbmodels import TagValue

    app.update_logger_period(1.0)  # the least it allows; it ships with 10
    which = itertools.cycle(tags)
    for number in range(5_000):
        cvt.set_value(id=next(which).id, value=float(number % 40), timestamp=datetime.now(UTC))
    before = TagValue.select().count()
    speak.until(lambda: bool(TagValue.select().count() > before), 30.0, 0.05)
    began, start = time.perf_counter(), TagValue.select().count()
    time.sleep(ROWS_LIMIT_S)
    return float(TagValue.select().count() - start) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
