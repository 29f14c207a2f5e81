"""Files that are imported: what stands in them comes out as it was, and all that is wrong is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import ConfigError, Refused, Unavailable
from tagwerk.protocols.history import BeginImport, EndImport, ImportSamples, ImportTaken
from tagwerk.protocols.message import Done, Message
from tagwerk.protocols.samples import ValueType
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.cli import history_import, import_formats
from tagwerk.runtime.cli.app import run
from tagwerk.runtime.cli.import_file import FINDINGS_MOST, Block, Checker, Findings
from tagwerk.runtime.cli.import_formats import cells_of

S = 1_000_000_000
NOW_NS = 1_800_000_000 * S
TAGS = {
    "a.float": TagDef(1, "a.float", "float", 0, unit="degC"),
    "a.int": TagDef(2, "a.int", "int", 0),
    "a.bool": TagDef(3, "a.bool", "bool", 0),
    "a.text": TagDef(4, "a.text", "str", 0),
    "a.unlogged": TagDef(5, "a.unlogged", "float", 0, log=False),
}
T = "2023-11-14T22:13:20Z"
T0 = 1_700_000_000 * S


def definition(name: str) -> TagDef:
    if name not in TAGS:
        raise Refused("UnknownTag", f"there is no tag {name!r}", name)
    return TAGS[name]


def read(path: Path) -> tuple[list[tuple[Any, ...]], Findings]:
    """The samples of a file as (handle, time, value or None, quality), and what is wrong."""
    findings = Findings()
    checker = Checker(definition, NOW_NS, findings)
    rows: list[tuple[Any, ...]] = []
    for cells in cells_of(path, findings):
        rows += rows_of(checker.block(cells))
    return rows, findings


def rows_of(block: Block) -> list[tuple[Any, ...]]:
    floats = block.bits.view(np.float64).tolist()
    found: list[tuple[Any, ...]] = []
    for row, (tag, time_ns, bits, code, kind) in enumerate(
        zip(block.tags.tolist(), block.times.tolist(), block.bits.tolist(), block.quality.tolist(),
            block.kinds.tolist(), strict=True)
    ):  # fmt: skip
        by_kind = {ValueType.FLOAT: floats[row], ValueType.INT: bits, ValueType.BOOL: bool(bits)}
        value = block.texts[bits] if kind == ValueType.STR else by_kind.get(ValueType(kind))
        found.append((tag, time_ns, value, code))
    return found


def write(tmp_path: Path, *lines: str, head: str = "time,tag,value,unit,quality") -> Path:
    path = tmp_path / "x.csv"
    path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    return path


def test_what_stands_there_comes_out(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"{T},a.float,0.1,degC,Good",
        f"{T},a.float,,degC,BadNoCommunication",
        "2023-11-14T23:13:20.000000001+01:00,a.float,-inf,,Uncertain",
        f"{T},a.float,68,degF,Good",
        f"{T},a.int,{2**63 - 1},,Good",
        f"{T},a.bool,true,,Bad(0x80770000)",
        f"{T},a.bool,off,,Good",
        f'{T},a.text,"a, ""b""\n",,Good',
        f"{T},a.text,,,Good",
        f"{T},a.text,,,Bad",
    )
    rows, findings = read(path)
    assert findings.told == []
    values = sorted(rows, key=lambda row: row[0])
    assert [(row[0], row[2], row[3]) for row in values] == [
        (1, 0.1, 0), (1, None, q.BAD_NO_COMMUNICATION), (1, float("-inf"), q.UNCERTAIN), (1, pytest.approx(20.0), 0),
        (2, 2**63 - 1, 0), (3, True, 0x8077_0000), (3, False, 0), (4, 'a, "b"\n', 0), (4, "", 0), (4, None, q.BAD),
    ]  # fmt: skip
    assert {row[1] for row in rows} == {T0, T0 + 1}


def test_columns_in_any_order_and_without_the_optional_ones(tmp_path: Path) -> None:
    rows, findings = read(write(tmp_path, f"a.int,5,{T}", head="tag,value,time"))
    assert (rows, findings.count) == ([(2, T0, 5, 0)], 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2023-02-30T00:00:00Z,a.int,1,,Good", "is no time"),
        ("2023-02-20T00:00:00,a.int,1,,Good", "has no zone"),
        ("2023-02-20,a.int,1,,Good", "has no zone"),
        ("now,a.int,1,,Good", "is no time"),
        (",a.int,1,,Good", "is no time"),
        ("2199-01-01T00:00:00Z,a.int,1,,Good", "in the future"),
        ("1969-01-01T00:00:00Z,a.int,1,,Good", "before 1970"),
        (f"{T},a.nix,1,,Good", "there is no tag 'a.nix'"),
        (f"{T},a.unlogged,1,,Good", "log = false"),
        (f"{T},a.int,1.5,,Good", "expected a whole number"),
        (f"{T},a.int,{2**63},,Good", "does not fit"),
        (f"{T},a.float,1e999,,Good", "too large"),
        (f"{T},a.float,nan,,Good", "expected a number"),
        (f"{T},a.float,1,bar,Good", "expected a number in degC"),
        (f"{T},a.bool,2,,Good", "expected true or false"),
        (f"{T},a.float,,,", "there is no value"),
        (f"{T},a.int,1,,Goood", "is no quality"),
        (f"{T},a.int,1", "3 cells; expected 5"),
        (f"{T},a.text,{'x' * 64_001},,Good", "too long"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    rows, findings = read(write(tmp_path, f"{T},a.int,1,,Good", line, f"{T},a.int,2,,Good"))
    assert [row[2] for row in rows] == [1, 2]
    assert [(number, words in what) for number, what in findings.told] == [(3, True)]


def test_of_much_that_is_wrong_the_first_is_told_and_all_is_counted(tmp_path: Path) -> None:
    _, findings = read(write(tmp_path, *[f"{T},a.nix,1,,Good"] * 50, *["soon,a.int,1,,Good"] * 50))
    assert (len(findings.told), findings.count) == (FINDINGS_MOST, 100)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column 'time'"),
        (b"time,tag,val\n", "no column 'value'"),
        (b"time,tag,value,colour\n", "no use for the column 'colour'"),
        (b"time,tag,value,value\n", "two columns 'value'"),
        (b"time,tag,value\n2023-11-14T22:13:20Z,a.int,\xff\n", "no UTF-8"),
        (b'time,tag,value\n2023-11-14T22:13:20Z,a.int,"1"x\n', "no CSV"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read(path)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing can be imported"):
        read(tmp_path / "x.xlsx")


def test_parquet_of_somebody_else(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    stamps = pa.array([T0 // 1_000_000] * 3, pa.timestamp("ms", tz="Europe/Berlin"))
    names = pa.array(["a.int", "a.float", "a.bool"])
    parquet.write_table(pa.table({"time": stamps, "tag": names, "value": [3.0, 3.5, 1.0]}), path)
    rows, findings = read(path)
    assert (sorted(rows), findings.count) == ([(1, T0, 3.5, 0), (2, T0, 3, 0), (3, T0, True, 0)], 0)
    parquet.write_table(pa.table({"time": stamps, "tag": names, "value": [3.7, None, 0.5]}), path)
    assert [line for line, _ in sorted(read(path)[1].told)] == [1, 2, 3]
    parquet.write_table(pa.table({"time": stamps.cast(pa.timestamp("ns")), "tag": names, "value": [1, 2, 3]}), path)
    with pytest.raises(ConfigError, match="no times with a zone"):
        read(path)
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(ConfigError, match="no Parquet file"):
        read(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0, 2.0], [3.0]], "'value' holds nothing that a tag can be"),
        ([{"a": 1.0}, None], "'value' holds nothing that a tag can be"),
        ([b"1", b"2"], "'value' holds nothing that a tag can be"),
        ([float("inf"), 1e300], "a.int"),
        (np.array([2**64 - 1, 1], np.uint64), "a.int"),
    ],
)
def test_parquet_values_that_are_none(tmp_path: Path, values: Any, words: str) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    times = pa.array([T0, T0 + 1], pa.timestamp("ns", "UTC"))
    parquet.write_table(pa.table({"time": times, "tag": ["a.int"] * 2, "value": values}), tmp_path / "x.parquet")
    told = ""
    try:
        _, findings = read(tmp_path / "x.parquet")
        told = findings.told[0][1]
    except ConfigError as error:
        told = str(error)
    assert words in told


def test_the_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"time,tag,value\n" + f"{T},a.float,1\n".encode() * 5 + b"\xff\n")
    with pytest.raises(ConfigError, match=r"x\.csv:7"):
        read(tmp_path / "x.csv")


# --- the command -----------------------------------------------------------------------------------------------------


class FakePlant:
    """Takes imports; `failures` come first."""

    def __init__(self) -> None:
        self.user, self.host = "me", "here"
        self.asked: list[Message] = []
        self.failures: list[Exception] = []
        self.definition = definition

    def __enter__(self) -> FakePlant:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def query(self, _actor: str, message: Message, _reply: object) -> Message:
        self.asked.append(message)
        if isinstance(message, ImportSamples):
            if self.failures:
                raise self.failures.pop(0)
            return ImportTaken(len(message.kinds), 0)
        return Done()

    ask = lambda self, actor, message: self.query(actor, message, None)  # noqa: E731


@pytest.fixture
def plant() -> FakePlant:
    return FakePlant()


@pytest.fixture
def call(plant: FakePlant, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = run(["history", "import", *arguments], lambda _session, _timeout: plant)  # type: ignore[arg-type, return-value]
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


def test_nothing_is_sent_if_anything_is_wrong(call: Any, plant: FakePlant, tmp_path: Path) -> None:
    path = write(tmp_path, *[f"{T},a.int,1,,Good"] * 5, f"{T},a.int,x,,Good")
    code, out, err = call(str(path))
    assert (code, out, plant.asked) == (2, "", [])
    assert f"{path}:7: a.int: expected a number" in err
    assert "nothing was imported" in err


def test_it_is_sent_by_tag_and_told_at_the_end(
    call: Any, plant: FakePlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_import, "SEND_ROWS", 3)
    monkeypatch.setattr(import_formats, "BLOCK_ROWS", 2)
    monkeypatch.setattr(history_import, "AGAIN_S", 0.0)
    plant.failures = [Refused("Conflict", "another import"), Unavailable("away")]
    lines = [f"{T},a.{tag},{value},,Good" for value in (1, 0, 1) for tag in ("text", "bool", "int")]
    code, out, _ = call(str(write(tmp_path, *lines)))
    assert (code, "9 samples added, 0 were known, of 3 tags" in out) == (0, True)
    assert isinstance(plant.asked[0], BeginImport)
    assert isinstance(plant.asked[-1], EndImport)
    sent = [one for one in plant.asked if isinstance(one, ImportSamples)]
    assert sent[0] == sent[1] == sent[2]  # again, until it was taken
    assert [np.frombuffer(one.tags, "<u4").tolist() for one in sent[2:]] == [[2] * 3, [3] * 3, [4] * 3]
    assert np.frombuffer(sent[2].bits, "<i8").tolist() == [1, 0, 1]
    assert sent[-1].texts == ("1", "0", "1")


def test_a_dry_run_sends_nothing(call: Any, plant: FakePlant, tmp_path: Path) -> None:
    code, out, _ = call(str(write(tmp_path, f"{T},a.int,1,,Good")), "--dry-run")
    assert (code, "nothing is wrong" in out) == (0, True)
    assert [type(one) for one in plant.asked] == [BeginImport]


def test_what_stopped_in_the_middle_says_so(
    call: Any, plant: FakePlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_import, "SEND_ROWS", 1)
    plant.failures = []
    path = write(tmp_path, f"{T},a.int,1,,Good", f"{T},a.bool,1,,Good")

    def query(_actor: str, message: Message, _reply: object) -> Message:
        plant.asked.append(message)
        if len(plant.asked) == 3:
            raise Refused("NotPermitted", "the disk is full")
        return ImportTaken(1, 0) if isinstance(message, ImportSamples) else Done()

    monkeypatch.setattr(plant, "query", query)
    code, _, err = call(str(path))
    assert code == 1
    assert "1 of 2 samples were added; run it again, none is added twice" in err
    assert not any(isinstance(one, EndImport) for one in plant.asked)
