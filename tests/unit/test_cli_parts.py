"""Parts of the command line that need no plant: options, completion, tables, what `up` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.cli import output, plant, trends
from tagwerk.runtime.cli.alarms import state_of
from tagwerk.runtime.cli.completion import home_in
from tagwerk.runtime.cli.history_read import Column
from tagwerk.runtime.cli.options import hoisted

ROW: dict[str, Any] = {
    "name": "cvt/0", "kind": "cvt", "node": "node/main", "state": "RUNNING", "pid": 42, "incarnation": 1,
    "restarts": 0, "uptime_s": 61.0, "rss_bytes": 78_000_000, "cpu_pct": 1.4, "heartbeat_age_s": 0.1,
    "inbox_depth": 0, "inbox_oldest_s": None, "handled": 10, "deadletters": 0, "reason": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("read a --json", "--json read a"),
        ("read --home /x a", "--home /x read a"),
        ("read --home=/x a --utc", "--home=/x --utc read a"),
        ("write a -- --json", "write a -- --json"),
        ("read a --home", "--home read a"),
        ("--user u write a 5 --reason --timeout", "--user u --timeout write a 5 --reason"),
    ],
)
def test_global_options_go_first(given: str, expected: str) -> None:
    assert hoisted(given.split()) == expected.split()


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("tagwerk --home /x read b", "/x"),
        ("tagwerk read --home=/x b", "/x"),
        ("tagwerk read b", ""),
        ("tagwerk --home '/a b' read 'c", "'/a"),
        ("tagwerk read --home", ""),
    ],
)
def test_completion_finds_the_home(line: str, home: str) -> None:
    assert home_in(line) == home


def test_plain_columns_are_never_cut() -> None:
    long = "x" * 300
    lines = output.columns(("name", "value"), [(long, "1"), ("b", "12\x07")], right=("value",))
    assert lines[0].split() == ["NAME", "VALUE"]
    assert lines[1] == f"{long}  {1:>6}"
    assert lines[2].endswith("12\\x07")
    assert all(line == line.rstrip() for line in lines)


def test_an_empty_table_has_its_head() -> None:
    assert output.columns(("a", "b"), []) == ["A  B"]


def test_a_cell_is_never_markup() -> None:
    from rich.console import Console

    console = Console(width=60)
    with console.capture() as captured:
        console.print(output.rich_table(("a",), [("[red]x[/red]",), ("BadNoCommunication",)]))
    assert "[red]x[/red]" in captured.get()


def test_cells_of_a_status_row() -> None:
    assert plant.status_cells(ROW) == (
        "cvt/0", "RUNNING", "42", "1m01s", "0", "1%", "78 MB", "0.1s", "0", "-", "10", "0", "",
    )  # fmt: skip
    nothing = dict.fromkeys(("pid", "uptime_s", "rss_bytes", "cpu_pct", "heartbeat_age_s"))
    assert plant.status_cells({**ROW, **nothing})[2:8] == ("-", "-", "0", "-", "-", "-")


@pytest.mark.parametrize(
    ("states", "up"),
    [(["RUNNING"], True), (["STOPPING"], True), (["UNKNOWN"], False), (["STOPPED"], False), ([], False)],
)
def test_a_plant_is_up_if_its_node_is(states: list[str], up: bool) -> None:
    rows = [{**ROW, "kind": "node", "state": state} for state in states]
    assert plant.is_up([*rows, ROW]) is up


def test_a_plot_is_drawn_in_stretches_of_good_values() -> None:
    nan = float("nan")
    column = Column(
        TagDef(1, "a.b", "float", 0),
        np.array([1.0, 2.0, nan, 3.0, np.inf, 1.0]),
        np.array([0, 2, 3, 4, 5, 6]),
        np.array([0, 0x40900000, 0, 0x80310000, 0, 0], np.uint32),  # uncertain is still a value
    )
    found = trends.trend(column, 1, 9)
    lines = [tuple(map(list, stretch.steps())) for stretch in found.stretches]
    assert lines == [([1, 2, 2, 3], [1.0, 1.0, 2.0, 2.0]), ([6, 9], [1.0, 1.0])]
    assert found.bad == [trends.Span(3, 6, "Good")]
    assert found.uncertain == [trends.Span(2, 3, "UncertainLastUsableValue")]


@pytest.mark.parametrize(
    ("true", "word"),
    [
        ("active", "ALARM"),
        ("active acked", "acknowledged"),
        ("", "returned"),
        ("acked", "normal"),
        ("acked latched", "latched"),
        ("active shelved", "shelved"),
        ("active suppressed shelved", "suppressed"),
        ("out_of_service active", "out of service"),
    ],
)
def test_the_state_of_an_alarm_in_a_word(true: str, word: str) -> None:
    keys = ("active", "acked", "latched", "shelved", "suppressed", "out_of_service")
    assert state_of({**{key: key in true.split() for key in keys}, "enabled": True}) == word
    assert state_of({**dict.fromkeys(keys, False), "enabled": False}) == "disabled"


def test_a_narrow_terminal_goes_without_the_less_important_columns() -> None:
    head, rows = ["name", "pid", "handled"], [["cvt/0", "12345", "1"], ["historian/0", "1", "99"]]
    assert output.narrowed(head, rows, 27, ["handled", "pid"]) == (head, rows)
    assert output.narrowed(head, rows, 26, ["handled", "pid"]) == (["name", "pid"], [row[:2] for row in rows])
    assert output.narrowed(head, rows, 3, ["handled", "pid"]) == (["name"], [row[:1] for row in rows])
