"""Simulated runs, graphs, and the commands `tagwerk order check|simulate|graph`."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.orders.logic.gantt import gantt
from tagwerk.actors.orders.logic.graph import dot, mermaid
from tagwerk.actors.orders.logic.paces import Answers, Pace, Paces, read_paces
from tagwerk.actors.orders.logic.pfdl import read
from tagwerk.actors.orders.logic.simulate import Simulation, simulate
from tagwerk.protocols.errors import ConfigErrors
from tagwerk.runtime.cli.app import run as cli

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/workshop/orders").glob("*.pfdl"))
ORDER = """# dialect: tagwerk 1
Struct R
    n: number
End
Task productionTask
    Make
        Out
            r: R
    Parallel Loop i To 3
        sub
            In
                r
            Out
                q: R
    Mill
        Timeout 5
        Retry 1
        OnError
            Repair
    Loop i To 2
        Loop j To 2
            Cut
End
Task sub
    In
        r: R
    Drill
        In
            r
        Out
            out: R
    Out
        out
End
"""


def run(paces: dict[str, Any] | None = None, answers: dict[str, Any] | None = None, seed: int = 0) -> Simulation:
    program = read(ORDER)
    return simulate(program, read_paces(paces or {}, program, "p"), Answers(answers or {}, program, "a"), seed)


def test_services_take_their_time_side_by_side_and_one_after_the_other() -> None:
    found = run({"Drill": 3, "default": {"duration_s": 0.5}})
    assert (found.state, found.duration_s, len(found.calls)) == ("FINISHED", 0.5 + 3 + 0.5 + 4 * 0.5, 9)
    drills = [(one.start_s, one.end_s) for one in found.calls if one.service == "Drill"]
    assert drills == [(0.5, 3.5)] * 3


def test_without_an_answer_an_output_is_the_input_of_its_type_else_zero() -> None:
    assert run(answers={"Make": {"n": 7}}).variables["q"] == {"n": 7}
    assert run().variables["q"] == {"n": 0}


@pytest.mark.parametrize("answer", [{"n": 2}, {"out": {"n": 2}}, {"R": {"n": 2}}, [{"n": 1}, {"n": 2}]])
def test_forms_of_answers(answer: Any) -> None:
    assert run(answers={"Drill": answer}).variables["q"] == {"n": 2}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"Dril": {}}, "Dril: the order calls no such service; expected Drill?"),
        ({"Drill": []}, "Drill: no answer in it"),
        ({"Drill": 5}, "Drill: this is no answer (got 5)"),
        ({"Drill": {"out": {"n": "x"}}}, 'Drill: out.n: this is no number (got "x")'),
        ({"Drill": [{"n": 1}, {"x": 1}]}, "Drill[1].x: the service gives no such output; expected R, out"),
    ],
)
def test_answers_that_fit_nothing_are_refused(answers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigErrors, match=re.escape(message)):
        run(answers=answers)


@pytest.mark.parametrize(
    "paces", [{"Dril": 1}, {"Drill": -1}, {"Drill": True}, {"Drill": {"rate": 1}}, {"Drill": {"failure_rate": 2}}]
)
def test_paces_that_mean_nothing_are_refused(paces: dict[str, Any]) -> None:
    with pytest.raises(ConfigErrors, match="Dril"):
        run(paces)


def test_a_service_past_its_timeout_is_tried_again_then_handled() -> None:
    found = run({"Mill": 9})
    mills = [(one.attempt, one.state, one.reason) for one in found.calls if one.service == "Mill"]
    assert mills == [(1, "FAILED", "not finished within 5 s"), (2, "FAILED", "not finished within 5 s")]
    assert "Repair" in [one.service for one in found.calls]
    assert found.state == "FINISHED"


def test_the_seed_decides_what_fails() -> None:
    rate = {"Drill": {"failure_rate": 0.5}}
    assert run(rate, seed=1) == run(rate, seed=1)
    assert {run(rate, seed=seed).state for seed in range(20)} == {"FINISHED", "FAILED"}


def test_a_failed_order_says_where_and_cancels_the_rest() -> None:
    found = run({"Drill": {"failure_rate": 1}})
    assert (found.state, found.reason, found.line) == ("FAILED", "Drill: failed by chance", 27)
    assert [one.state for one in found.calls] == ["FINISHED", "FAILED", "CANCELLED", "CANCELLED"]


def test_an_order_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagwerk.actors.orders.logic.simulate.MOST_SERVICES", 50)
    program = read("Task productionTask\n    Loop While 1 < 2\n        A\nEnd")
    found = simulate(program, Paces({"A": Pace(2.0)}), Answers({}, program, ""))
    assert (found.state, len(found.calls)) == ("RUNNING", 51)
    assert "endless" in found.reason


def test_the_picture_is_svg_with_a_bar_a_call() -> None:
    root = ET.fromstring(gantt(run()))
    assert len([one for one in root.iter() if one.tag.endswith("title")]) == 9


def test_graphs_name_every_call_and_join_every_edge() -> None:
    program = read(ORDER)
    for text, node in ((mermaid(program), r"^    (\w+)[\[({]"), (dot(program), r"^    (\w+) \[label")):
        names = set(re.findall(node, text, re.MULTILINE))
        edges = re.findall(r"^ +(\w+) (?:->|-->|-\.->)(?: \|.*\|)? (\w+)", text, re.MULTILINE)
        assert len(edges) >= len(names) - 2, "all but the two first nodes are reached"
        assert {end for edge in edges for end in edge} <= names
        for call in ("Make", "sub", "Mill (timeout 5 s, retry 1)", "Repair", "Cut", "Drill", "parallel i to 3"):
            assert f'"{call}"' in text


@pytest.fixture
def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.pfdl"
    path.write_text(ORDER)
    return path


def test_check(order: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["order", "check", str(order)]) == 0
    assert "sound (2 tasks, 5 services, 1 struct)" in capsys.readouterr().out
    assert cli(["order", "check", str(order), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    order.write_text(ORDER.replace("Task sub", "Task sup").replace("r: R", "r: Q"))
    assert cli(["order", "check", str(order), "--json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {
        "file": str(order), "line": 10, "column": 9, "key": "Task productionTask", "value": "sub",
        "message": "there is no task sub", "expected": "`sup`?",
    }  # fmt: skip
    assert cli(["order", "check", str(order)]) == 2
    assert capsys.readouterr().err.count("error: ") == len(rows)


def test_simulate(order: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.toml").write_text("Mill = 2\n[Drill]\nfailure_rate = 1.0\n")
    (tmp_path / "a.json").write_text('{"Make": {"n": 3}}')
    given = ["--answers", str(tmp_path / "a.json"), "--svg", str(tmp_path / "g.svg")]
    assert cli(["order", "simulate", str(order), "--json", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["services"], len(found["calls"])) == ("FINISHED", 9, 9)
    assert found["variables"]["q"] == {"n": 3}
    assert (tmp_path / "g.svg").read_text().startswith("<svg")
    assert cli(["order", "simulate", str(order), "--durations", str(tmp_path / "d.toml")]) == 1
    shown = capsys.readouterr()
    assert "FAILED after 2 s" in shown.out
    assert f"{order}:27:5: Drill: failed by chance" in shown.err


@pytest.mark.parametrize(
    ("name", "text", "option"),
    [("d.toml", "Mill 2", "--durations"), ("a.json", "[" * 100_000, "--answers"), ("a.json", "[]", "--answers")],
)
def test_files_that_cannot_be_read_are_refused(
    name: str, text: str, option: str, order: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (order.parent / name).write_text(text)
    assert cli(["order", "simulate", str(order), option, str(order.parent / name), "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "Config"


def test_a_wrong_order_is_neither_drawn_nor_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "order.pfdl"
    path.write_bytes(b"Task cut\n    \xff\nEnd\n")
    assert cli(["order", "graph", str(path)]) == 2
    assert "no UTF-8" in capsys.readouterr().err
    path.write_text("Task cut\n    ?\nEnd\n")
    assert cli(["order", "simulate", str(path), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().err)["errors"]) == 2
    assert cli(["order", "graph", str(tmp_path / "none.pfdl")]) == 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_sound_and_finish(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = path.with_name(f"{path.stem}-answers.json")
    given = ["--answers", str(answers)] if answers.exists() else []
    assert cli(["order", "simulate", str(path), "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["services"] > 0
    assert cli(["order", "graph", str(path), "--format", "dot"]) == 0


def test_there_are_examples() -> None:
    assert EXAMPLES
