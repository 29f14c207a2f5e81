"""pfdl-scheduler, if it is installed: what it says to do, under names that a second run gives again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.orders import stock_scheduler
from tagwerk.actors.orders.stock_scheduler import StockScheduler
from tagwerk.protocols.errors import ConfigError, ConfigErrors, LocalProtocolError, Refused
from tagwerk.protocols.orders import Asked, Given

STRUCTS = """Struct Box
    count: number
    parts: Part[]
    tags: string[]
End
Struct Part
    width: number
End
"""
LOOPS = (
    STRUCTS
    + """Task productionTask
    In
        box: Box
    Loop i To box.count
        Cut
            In
                box.parts[i].width
                box
            Out
                box: Box
    Parallel
        pack
            In
                box
            Out
                packed: Box
        pack
            In
                Box {"count": 0, "parts": [{"width": 1}, {"width": -2}], "tags": ["a"]}
            Out
                other: Box
    Condition
        box.count > 1 And !(packed.count == 0)
    Passed
        Ship
            In
                packed
    Failed
        Scrap
            In
                other
End
Task pack
    In
        mine: Box
    Pack
        In
            mine
        Out
            done: Box
    Out
        done
End
"""
)
BOX = {"count": 2, "parts": [{"width": 4}, {"width": 5}], "tags": []}


@pytest.fixture(scope="module")
def installed() -> None:
    pytest.importorskip("pfdl_scheduler")


class Heard:
    """Writes down what is said; services that were asked for wait in a list."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.waiting: list[tuple[str, str]] = []

    def task_started(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        self.said.append(("task", task_id, name, context_id, values))

    def task_finished(self, task_id: str, name: str, context_id: str, values: tuple[Given, ...]) -> None:
        self.said.append(("done", task_id, name, context_id, values))

    def service_started(
        self, service_id: str, name: str, context_id: str, inputs: tuple[Given, ...], outputs: tuple[Asked, ...]
    ) -> None:
        self.said.append(("service", service_id, name, context_id, inputs, outputs))
        self.waiting.append((service_id, name))


def run() -> tuple[Heard, StockScheduler]:
    scheduler, heard = StockScheduler(LOOPS, "boxes.pfdl"), Heard()
    scheduler.take({"box": BOX})
    scheduler.start(heard)
    while heard.waiting:
        service_id, name = heard.waiting.pop()  # the last one first
        outputs = {"Cut": {"box": BOX}, "Pack": {"done": {**BOX, "count": int(service_id)}}}.get(name, {})
        scheduler.finish(service_id, outputs)
    assert not scheduler.running
    return heard, scheduler


@pytest.mark.usefixtures("installed")
def test_it_says_what_is_to_be_done_and_the_same_again() -> None:
    heard, scheduler = run()
    services = [one for one in heard.said if one[0] == "service"]
    assert [(one[1], one[2]) for one in services] == [
        ("0", "Cut"), ("1", "Cut"), ("2", "Pack"), ("3", "Pack"), ("4", "Ship"),
    ]  # fmt: skip
    widths = [one[4][0] for one in services[:2]]
    assert widths == [Given("box.parts[0].width", "number", 4), Given("box.parts[1].width", "number", 5)]
    assert services[0][5] == (Asked("box", "Box"),)
    assert services[3][4] == (Given("mine", "Box", {**BOX, "count": 0, "parts": [{"width": 1}, {"width": -2}],
                                                    "tags": ["a"]}),)  # fmt: skip
    done = [one for one in heard.said if one[0] == "done"]
    assert [one[4][0].name for one in done[:2]] == ["other", "packed"]  # under the caller's names
    assert run()[0].said == heard.said
    with pytest.raises(LocalProtocolError, match="does not wait"):
        scheduler.finish("0", {})


@pytest.mark.usefixtures("installed")
def test_what_is_wrong_is_told_with_its_line_and_nothing_is_left_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    level, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
    with pytest.raises(ConfigErrors) as caught:
        StockScheduler(LOOPS.replace("packed\n    Failed", "missing\n    Failed"), "boxes.pfdl")
    assert [(one.file, one.line) for one in caught.value.errors] == [("boxes.pfdl", 33)]
    with pytest.raises(ConfigErrors):
        StockScheduler("Task other\nEnd\n", "boxes.pfdl")
    with pytest.raises(ConfigErrors, match="this is no number"):
        StockScheduler(LOOPS, "boxes.pfdl").take({"box": {**BOX, "count": "two"}})
    assert (capsys.readouterr().out, list(tmp_path.iterdir())) == ("", [])
    assert (logging.getLogger().level, logging.getLogger().handlers) == (level, handlers)


@pytest.mark.usefixtures("installed")
def test_what_the_library_cannot_do_is_a_reason() -> None:
    text = STRUCTS + "Task productionTask\n    In\n        box: Box\n    Loop While box.count > 0\n        Cut\n"
    scheduler = StockScheduler(text + "            Out\n                cut: Box\nEnd\n", "boxes.pfdl")
    scheduler.take({"box": BOX})
    heard = Heard()
    scheduler.start(heard)
    with pytest.raises(Refused, match="pfdl-scheduler: KeyError"):
        scheduler.finish("0", {})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pfdl_scheduler.scheduler", None)
    with pytest.raises(ConfigError, match="pfdl-scheduler"):
        stock_scheduler.library()
