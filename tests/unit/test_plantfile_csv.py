"""Tags from CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagwerk.protocols.errors import ConfigErrors
from tagwerk.runtime.plantfile import PlantFile, as_rows, parse
from tagwerk.runtime.plantfile_csv import HEADER

TOML = """
[plant]
tag_files = ["tags.csv"]
[opcua.plc]
url = "opc.tcp://h:4840"
[tag.first]
unit = "bar"
[alarm.hot]
tag = "a.t"
type = "HI"
limit = 5
"""


def read(folder: Path, csv: str | bytes, toml: str = TOML) -> PlantFile:
    path = folder / "tags.csv"
    path.write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    return parse(toml, folder / "plant.toml")


def problems(folder: Path, csv: str | bytes, toml: str = TOML) -> list[tuple[str, int | None, str, str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        read(folder, csv, toml)
    rows = as_rows(caught.value)
    assert all(row["message"] for row in rows)
    return [
        (Path(str(row["file"])).name, error.line, error.key, error.value, error.expected)
        for row, error in zip(rows, caught.value.errors, strict=True)
    ]


def test_the_header_is_that_of_the_interface() -> None:
    assert ",".join(HEADER) == (
        "name,type,unit,description,source,node,writable,low,high,deadband,log,display_unit,area,labels"
    )


def test_rows_become_tags_after_those_of_the_toml_text(tmp_path: Path) -> None:
    rows = [
        ",".join(HEADER),
        'a.t,float,degC,"hot, very",plc,nsu=urn:x;s=T,TRUE,0,100,0.5,no,degF,hot,"x; y"',
        "",
        " a.u , bool,,,,,,,,,,,,",
        "",
    ]
    csv = "\r\n".join(rows)
    plant = read(tmp_path, b"\xef\xbb\xbf" + csv.encode())
    assert list(plant.tags) == ["first", "a.t", "a.u"]
    tag = plant.tags["a.t"]
    assert (tag.unit, tag.display_unit, tag.low, tag.high, tag.deadband) == ("degC", "degF", 0.0, 100.0, 0.5)
    assert (tag.description, tag.area, tag.labels) == ("hot, very", "hot", ("x", "y"))
    assert (tag.source, tag.node, tag.writable, tag.log) == ("opcua/plc", "nsu=urn:x;s=T", True, False)
    assert (plant.tags["a.u"].type, plant.tags["a.u"].log) == ("bool", True)


def test_columns_come_in_any_order_and_may_be_other_keys_of_a_tag(tmp_path: Path) -> None:
    csv = "default,name,stale_after_s,type\n5,a.t,1.5,int\ntrue,b,,bool\n7,c,,str\n1e3,d,,\n"
    tags = read(tmp_path, csv).tags
    assert (tags["a.t"].default, tags["a.t"].stale_after_s) == (5, 1.5)
    assert [tags[name].default for name in "bcd"] == [True, "7", 1000.0]


def test_all_problems_of_all_rows_are_listed_as_written(tmp_path: Path) -> None:
    csv = """name,type,unit,node,low,high,log,sorce,default
a.t,float,degC,,,,,,
a.u,float,barr,,1.50,1.0,maybe,,
a..v,flaot,,,x,,,,
first,,,,,,,,
a.t,,,,,,,,
short,,
n,,,nsu=x;q=1,,,,,
d,int,,,,,,,1.5
"""
    found = problems(tmp_path, csv)
    places = [(line, key, value) for _, line, key, value, _ in found]
    assert places == [
        (1, "row 1, column sorce", "sorce"),
        (3, "row 3, column log", "maybe"),
        (3, "row 3, column unit", "barr"),
        (3, "row 3, column low", "1.50"),
        (4, "row 4, column name", "a..v"),
        (4, "row 4, column type", "flaot"),
        (4, "row 4, column low", "x"),
        (5, "row 5, column name", "first"),
        (6, "row 6, column name", "a.t"),
        (7, "row 7", "short,,"),
        (8, "row 8, column node", "nsu=x;q=1"),
        (9, "row 9, column default", "1.5"),
    ]
    assert {file for file, *_ in found} == {"tags.csv"}
    expected = {(line, key.partition("column ")[2]): text for _, line, key, _, text in found}
    assert "source" in expected[1, "sorce"]
    assert expected[3, "log"].startswith("true, false, or a rule")
    assert "degC" in expected[3, "unit"]
    assert expected[3, "low"] == "less than high, 1"
    assert expected[4, "type"].startswith("float (did you mean that?)")
    assert expected[5, "name"].endswith("plant.toml line 6")
    assert expected[6, "name"].endswith("tags.csv row 2")
    assert "9 cells" in expected[7, ""]
    assert "nsu=URI" in expected[8, "node"]
    assert "whole number" in expected[9, "default"]


def test_a_row_stands_where_it_begins(tmp_path: Path) -> None:
    csv = 'name,description,low\na.t,"two\nlines",\nb,,x\n'
    assert [(line, key) for _, line, key, _, _ in problems(tmp_path, csv)] == [(4, "row 4, column low")]


@pytest.mark.parametrize(
    ("csv", "line", "key", "value", "expected"),
    [
        ("", 1, "row 1, column name", "", "name,type,unit"),
        ("tag,unit\nx,\n", 1, "row 1, column name", "tag,unit", "name,type,unit"),
        ("name,unit,unit\n", 1, "row 1, column unit", "unit", "once"),
        ('name\n"a"b\n', 2, "row 2", "", "RFC 4180"),
        ("name\na\0b\n", 2, "row 2, column name", "a\0b", "letters"),
        (b"name\n\xff\n", 3, "plant.tag_files", "tags.csv", "UTF-8"),
    ],
)
def test_files_of_a_wrong_form(
    csv: str | bytes, line: int, key: str, value: str, expected: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, csv)
    assert (line, key, value) in [row[1:4] for row in found]
    assert expected in next(row[4] for row in found if row[2] == key)


def test_a_missing_file_is_told_and_the_tags_that_no_other_file_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(TOML.replace("tags.csv", "gone.csv"), tmp_path / "plant.toml")
    error, alarm = caught.value.errors
    assert (error.key, error.line, error.value) == ("plant.tag_files", 3, "gone.csv")
    assert "readable" in error.expected
    assert (alarm.key, alarm.value) == ("alarm.hot.tag", "a.t")
    assert alarm.message == "there is no such tag in the files that can be read"


def test_a_tag_in_two_files_is_declared_twice(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("name\na.t\n")
    toml = TOML.replace('["tags.csv"]', '["tags.csv", "more.csv"]')
    ((file, line, key, value, expected),) = problems(tmp_path, "name\na.t\n", toml)
    assert (file, line, key, value) == ("more.csv", 2, "row 2, column name", "a.t")
    assert expected.endswith("tags.csv row 2")


def test_rows_that_say_what_one_before_them_said_are_read_and_checked_as_it_was(tmp_path: Path) -> None:
    rows = [
        "description,name,type,low,source,node,default",
        "one,a.t,float,1,plc,i=1,",
        "two, a.u ,float,1,plc, i=2 ,",
        ",a.v,float,1,plc,i=3,",
        "x,b,int,,,,1",
        "y,c,bool,,,,1",
        "z,d,int,,,,1",
    ]
    tags = read(tmp_path, "\n".join(rows)).tags
    assert list(tags) == ["first", "a.t", "a.u", "a.v", "b", "c", "d"]
    assert [tags[name].description for name in tags] == ["", "one", "two", "", "x", "y", "z"]
    assert [tags[name].node for name in tags] == ["", "i=1", "i=2", "i=3", "", "", ""]
    assert [tags[name].low for name in ("a.v", "a.u", "d")] == [1.0, 1.0, None]
    assert [(tags[name].type, tags[name].default) for name in "bcd"] == [("int", 1), ("bool", True), ("int", 1)]
    assert tags["c"].default is True
    assert [name in tags for name in ("d", "first", "a", "zz", "", 5)] == [True, True, False, False, False, False]
    assert tags["b"] == dict(tags)["b"] == tags.at(4)
    with pytest.raises(KeyError):
        tags["a.w"]


def test_a_row_like_a_sound_one_is_told_when_its_name_or_node_is_wrong(tmp_path: Path) -> None:
    csv = "name,source,node\na.t,plc,i=1\na..u,plc,i=2\na.t,plc,i=3\na.v,plc,q\na.w,plc,\na.x,,i=5\na.y,,i=6\na.z,plc\n"
    places = [(line, key, value) for _, line, key, value, _ in problems(tmp_path, csv)]
    assert places == [
        (3, "row 3, column name", "a..u"),
        (4, "row 4, column name", "a.t"),
        (5, "row 5, column node", "q"),
        (9, "row 9", "a.z,plc"),
        (6, "row 6, column node", ""),
        (7, "row 7, column node", "i=5"),
        (8, "row 8, column node", "i=6"),
    ]


def test_what_is_wrong_is_told_of_each_row_that_says_it(tmp_path: Path) -> None:
    csv = "name,unit\na.t,bar\nb,barr\nc,barr\nd,bar\n"
    assert [(line, value) for _, line, _, value, _ in problems(tmp_path, csv)] == [(3, "barr"), (4, "barr")]


def test_a_namespace_index_is_warned_of_with_the_row(tmp_path: Path) -> None:
    csv = "name,source,node,unit\na.t,plc,ns=0;i=1,\nb,plc,ns=2;s=x,pH\nc,plc,ns=2;s=y,pH\n"
    moving, acid = read(tmp_path, csv).warnings
    assert moving.startswith("2 tags name their node")
    assert moving.endswith("tags.csv row 3")
    assert '"pH" of b' in acid
