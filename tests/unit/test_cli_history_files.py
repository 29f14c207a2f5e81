"""History in steps, as files and as pictures: what is asked, what a file holds, and when there is none."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tagwerk.protocols import history as h
from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.protocols.message import Message
from tagwerk.protocols.names import is_glob
from tagwerk.protocols.samples import Samples, ValueType, encode, make
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.cli import history_steps, new_file, svg
from tagwerk.runtime.cli.app import run
from tagwerk.runtime.cli.trends import Span, Stretch, Trend

S = 1_000_000_000
T0 = 1_700_000_000 * S
TAGS = {
    "a.float": TagDef(1, "a.float", "float", 0, unit="degC"),
    "a.int": TagDef(2, "a.int", "int", 0),
    "a.bool": TagDef(3, "a.bool", "bool", 0),
    "a.text": TagDef(4, "a.text", "str", 0),
}


class FakePlant:
    """Gives what stands in `pages` by handle; a table has one row a step, the column is its number."""

    def __init__(self) -> None:
        self.user, self.host = "me", "here"
        self.pages: dict[int, list[h.HistoryPage]] = {}
        self.asked: list[Any] = []

    def __enter__(self) -> FakePlant:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def definition(self, tag: str) -> TagDef:
        if tag not in TAGS:
            raise Refused("UnknownTag", f"there is no tag {tag!r}", tag)
        return TAGS[tag]

    def definitions(self, *globs: str) -> list[TagDef]:
        assert all(map(is_glob, globs))
        return list(TAGS.values())

    def query(self, _actor: str, message: Message, _reply: object, _timeout_s: float | None = None) -> Message:
        self.asked.append(message)
        if isinstance(message, h.GetTable):
            return self._table(message)
        assert isinstance(message, (h.GetHistory, h.GetTrend))
        pages = self.pages.get(message.handle, [h.HistoryPage((), None)])
        return pages[message.after] if isinstance(message, h.GetHistory) else pages[0]

    @staticmethod
    def _table(message: h.GetTable) -> h.HistoryTable:
        rows = -(-(message.end_ns - message.start_ns) // message.step_ns)
        numbers = (message.start_ns + message.step_ns * np.arange(rows)) / S
        there = np.ones(rows, np.bool_)
        there[0] = False
        columns = tuple(
            h.TableColumn(name, int(ValueType.FLOAT), numbers.tobytes(), there.tobytes()) for name in message.columns
        )
        return h.HistoryTable(message.start_ns, message.step_ns, rows, columns)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plant() -> FakePlant:
    return FakePlant()


@pytest.fixture
def call(plant: FakePlant, capsys: pytest.CaptureFixture[str]) -> Call:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments), lambda _session, _timeout: plant)  # type: ignore[arg-type, return-value]
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


def page(*batches: Samples, next_after: int | None = None) -> h.HistoryPage:
    return h.HistoryPage((encode(batches),), next_after)


def mixed(plant: FakePlant) -> None:
    gap = make(ValueType.QUALITY, [1], None, T0 + S, [q.BAD_NO_COMMUNICATION])
    plant.pages = {
        1: [
            page(make(ValueType.FLOAT, [1], [0.1], T0, [q.BACKFILLED]), gap, next_after=1),
            page(make(ValueType.FLOAT, [1], [np.inf], T0 + 2 * S)),
        ],
        2: [page(make(ValueType.INT, [2], [2**62 + 1], T0))],
        3: [page(make(ValueType.BOOL, [3], [True], T0))],
        4: [page(make(ValueType.STR, [4, 4], ["a,b\n", ""], T0))],
    }


# --- CSV and JSON into files -----------------------------------------------------------------------------------------


def test_csv_is_exact_and_whole(call: Call, plant: FakePlant, tmp_path: Path) -> None:
    mixed(plant)
    file = tmp_path / "all.csv"
    assert call("history", "a.*", "--csv", "--backfilled", "-o", str(file)) == (0, "", "")
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    assert rows[0] == ["time", "tag", "value", "unit", "quality", "backfilled"]
    assert rows[1] == ["2023-11-14T22:13:20.000000000Z", "a.float", "0.1", "degC", "Good", "true"]
    assert [row[2] for row in rows[2:]] == ["", "inf", str(2**62 + 1), "true", "a,b\n", ""]
    assert rows[2][4:] == ["BadNoCommunication", "false"]
    assert list(tmp_path.iterdir()) == [file]


def test_json_tells_what_was_backfilled(call: Call, plant: FakePlant) -> None:
    mixed(plant)
    rows = json.loads(call("history", "a.float", "--json")[1])
    assert [(row["value"], row["quality"], row["backfilled"]) for row in rows] == [
        (0.1, "Good", True), (None, "BadNoCommunication", False), (None, "Good", False),
    ]  # fmt: skip


def test_a_file_that_is_there_is_replaced_only_if_told(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("mine", encoding="utf-8")
    code, _, err = call("history", "a.int", "--csv", "-o", str(file))
    assert (code, "is there already" in err, file.read_text(encoding="utf-8")) == (2, True, "mine")
    assert call("history", "a.int", "--csv", "-o", str(file), "--force")[0] == 0
    assert file.read_text(encoding="utf-8") == "time,tag,value,unit,quality\n"


@pytest.mark.parametrize("wrong", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_that_is_not_finished_leaves_nothing(tmp_path: Path, wrong: BaseException, before: bytes | None) -> None:
    file = tmp_path / "x.csv"
    if before is not None:
        file.write_bytes(before)
    with (  # noqa: PT012  it goes wrong while the file is written
        pytest.raises(type(wrong)) as caught,
        new_file.new_file(file, replace=True) as stream,
    ):
        stream.write(b"half")
        raise wrong
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(file)


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    with (  # noqa: PT012  the file comes while the other one is written
        pytest.raises(ConfigError, match="is there already"),
        new_file.new_file(file, replace=False) as stream,
    ):
        stream.write(b"ours")
        file.write_bytes(b"theirs")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--csv", "--parquet", "x.parquet"),
        ("--output", "x.csv"),
        ("--backfilled",),
        ("--columns", "value"),
        ("--step", "1m", "--plot"),
        ("--step", "1m", "--columns", "values"),
        ("--step", "1m", "--columns", "on_time"),
        ("--step", "0s"),
        ("--step", "1m", "--limit", "3"),
        ("--svg", "x.svg", "--limit", "3"),
        ("--svg", "/not/there/x.svg"),
        ("--svg", "/"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_asked(
    call: Call, plant: FakePlant, arguments: tuple[str, ...]
) -> None:
    code, out, err = call("history", "a.int", *arguments)
    assert (code, out, plant.asked) == (2, "", [])
    assert err.startswith("error: ")


# --- steps -----------------------------------------------------------------------------------------------------------


def test_steps_are_asked_page_by_page(call: Call, plant: FakePlant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_steps, "PAGE_ROWS", 3)
    span = ("--from", "2023-11-14T22:13:20Z", "--to", "2023-11-14T22:14:25Z")
    code, out, err = call(
        "history", "a.float", "a.bool", *span, "--step", "10s", "--csv", "--columns", "average,on_time"
    )
    assert (code, err) == (0, "")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["time", "tag", "average", "on_time", "unit"]
    assert rows[1] == ["2023-11-14T22:13:20.000000000Z", "a.float", "", "", "degC"]
    assert rows[2] == ["2023-11-14T22:13:30.000000000Z", "a.float", "1700000010.0", "", "degC"]
    assert [row[1] for row in rows[1:]] == ["a.float"] * 7 + ["a.bool"] * 7
    asked = [(one.handle, (one.start_ns - T0) // S, (one.end_ns - T0) // S, one.columns) for one in plant.asked]
    assert asked[:3] == [(1, 0, 30, ("average",)), (1, 30, 60, ("average",)), (1, 60, 65, ("average",))]
    assert asked[3] == (3, 0, 30, ("average", "on_time"))


def test_steps_up_to_now_begin_at_round_times(call: Call, plant: FakePlant) -> None:
    assert call("history", "a.int", "--last", "1d", "--step", "15m", "--utc", "--json")[0] == 0
    (asked,) = plant.asked
    assert asked.start_ns % (900 * S) == 0
    plant.asked.clear()
    assert call("history", "a.int", "--step", "1h", "--utc")[0] == 0
    (asked,) = plant.asked
    assert asked.start_ns % (3600 * S) == 0
    assert 99 <= (asked.end_ns - asked.start_ns) / (3600 * S) <= 100


def test_a_counter_that_wraps_is_asked_for_with_its_end(call: Call, plant: FakePlant) -> None:
    assert call("history", "a.int", "--last", "1h", "--step", "1m", "--columns", "delta", "--wrap", "65536")[0] == 0
    assert plant.asked[0].wrap == 65536


# --- Parquet ---------------------------------------------------------------------------------------------------------


def read_parquet(file: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed").read_table(file)


def test_parquet_of_several_types_rounds_nothing(call: Call, plant: FakePlant, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    mixed(plant)
    file = tmp_path / "x.parquet"
    assert call("history", "a.*", "--parquet", str(file)) == (0, "", "")
    table = read_parquet(file)
    assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"
    rows = table.to_pydict()
    assert rows["tag"] == ["a.float"] * 3 + ["a.int", "a.bool", "a.text", "a.text"]
    assert rows["value"] == [0.1, None, float("inf"), float(2**62), 1.0, None, None]
    assert rows["value_int"][3] == 2**62 + 1
    assert rows["value_bool"][4] is True
    assert rows["value_str"][5:] == ["a,b\n", ""]
    assert rows["quality"][:3] == ["Good", "BadNoCommunication", "Good"]
    assert rows["backfilled"] == [True] + [False] * 6


@pytest.mark.parametrize(
    ("tag", "kind"), [("a.float", "double"), ("a.int", "int64"), ("a.bool", "bool"), ("a.text", "string")]
)
def test_parquet_of_one_type_has_one_column_of_it(
    call: Call, plant: FakePlant, tmp_path: Path, tag: str, kind: str
) -> None:
    pytest.importorskip("pyarrow")
    mixed(plant)
    file = tmp_path / "x.parquet"
    assert call("history", tag, "--parquet", str(file))[0] == 0
    schema = read_parquet(file).schema
    assert str(schema.field("value").type) == kind
    assert schema.names == ["time", "tag", "value", "unit", "quality", "backfilled"]


def test_steps_as_parquet(call: Call, plant: FakePlant, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "x.parquet"
    span = ("--from", "2023-11-14T22:13:20Z", "--to", "2023-11-14T22:13:50Z")
    assert call("history", "a.float", *span, "--step", "10s", "--columns", "min,count", "--parquet", str(file))[0] == 0
    rows = read_parquet(file).to_pydict()
    assert rows["min"] == [None, 1_700_000_010.0, 1_700_000_020.0]
    assert rows["count"] == [None, 1_700_000_010, 1_700_000_020]
    assert (len(plant.asked), rows["unit"][0]) == (1, "degC")


def test_without_pyarrow_it_is_said(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    code, _, err = call("history", "a.int", "--parquet", str(tmp_path / "x.parquet"))
    assert (code, "pip install 'tagwerk[parquet]'" in err) == (2, True)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_has_gaps_bad_stretches_and_steps(call: Call, plant: FakePlant, tmp_path: Path) -> None:
    values = [5.0] * 10 + [6.0] * 10
    codes = [0] * 5 + [q.BAD_NO_COMMUNICATION] * 3 + [0] * 2 + [q.UNCERTAIN] * 10
    stamps = [T0 + n * S for n in range(20)]
    plant.pages = {1: [page(make(ValueType.FLOAT, [1] * 20, values, stamps, codes))]}
    file = tmp_path / "x.svg"
    span = ("--from", "2023-11-14T22:13:20Z", "--to", "2023-11-14T22:14:20Z")
    assert call("history", "a.float", "--svg", str(file), "--utc", *span) == (0, "", "")
    (asked,) = plant.asked
    assert (asked.points, asked.bounds) == (svg.POINTS, True)
    text = file.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    lines = [one.get("d", "") for one in root.iter(f"{space}path") if (one.get("class") or "").startswith("line")]
    assert len(lines) == 3  # the legend, and a line on each side of the gap
    assert not any("L" in line for line in lines)
    bands = {one.get("class"): one[0].text for one in root.iter(f"{space}rect") if len(one)}
    assert bands == {"bad": "a.float: BadNoCommunication", "uncertain": "a.float: Uncertain"}


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1e308, 1e308], [1e-300, 2e-300], [3.0, 3.0 + 1e-12]])
def test_any_range_of_values_can_be_drawn(values: list[float]) -> None:
    times = np.arange(len(values)) * S
    one = Trend(TAGS["a.float"], [Stretch(times, np.array(values), 10 * S)], [Span(3, 4, "<Bad>")], [])
    text = svg.picture([one], 0, 10 * S, utc=True)
    ElementTree.fromstring(text)
    assert not re.search(r"\b(nan|inf)\b", text)
