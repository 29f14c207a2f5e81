"""Tag definitions in columns: what goes in comes out, in any part of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.protocols.names import compile_globs
from tagwerk.protocols.tag_names import NameColumn, TagNames, sorted_rows
from tagwerk.protocols.tag_rows import ByName, TagRows
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime import definitions
from tagwerk.runtime.definitions import DefinitionTable
from tagwerk.runtime.home import Home

TAGS = [
    TagDef(1, "hall.temp", "float", 0, unit="°C", low=0.0, high=200.0, deadband=1.0, deadband_pct=2.0,
           source="opcua/plc"),
    TagDef(4, "hall.kühler", "bool", 1, default=False, log=False, writable=True),
    TagDef(7, "hall.note", "str", 0, stale_after_s=4.0, hold_s=2.0, labels=("a", "b"), description="a\nb"),
    TagDef(9, "hall.count", "int", 1, deadband_pct=5.0, source="opcua/plc"),
]  # fmt: skip


@given(st.lists(st.sampled_from(range(4)), unique=True).map(sorted))
def test_any_part_gives_its_tags_whole(places: list[int]) -> None:
    tags = [TAGS[place] for place in places]
    mask = np.isin(np.arange(4), places)
    for rows in (
        TagRows.of(tags),
        TagRows.of(TAGS).where(mask),
        TagRows.of([*TAGS, TAGS[0]]).where(np.append(mask, False)),
    ):
        assert list(rows) == tags
        assert [rows[place] for place in range(len(tags))] == tags
        assert rows[1:] == tuple(tags[1:])
        assert list(rows.names) == [tag.name for tag in tags]
        assert rows.defaults.tolist() == [row for row, tag in enumerate(tags) if tag.default is not None]
        assert rows.logged.tolist() == [tag.log for tag in tags]
        assert [rows.source_names[place] for place in rows.sources.tolist()] == [tag.source for tag in tags]
        assert np.flatnonzero(rows.mask_of(["hall.??m?", "hall.note"])).tolist() == [
            row for row, tag in enumerate(tags) if tag.name in ("hall.temp", "hall.note")
        ]
        assert dict(ByName(rows)) == {tag.name: tag for tag in tags}


def test_columns_are_those_of_the_tags() -> None:
    rows = TagRows.of(TAGS)
    assert rows.bands.tolist() == [4.0, 0.0, 0.0, 0.0]
    assert rows.hold_s.tolist() == [0.0, 0.0, 2.0, 0.0]
    assert np.nan_to_num(rows.stale_after_s, nan=-1.0).tolist() == [-1.0, -1.0, 4.0, -1.0]
    assert rows.where(rows.shards == 1).where(np.array([False, True])).names[:] == ["hall.count"]
    assert rows.where(np.array([True, False, False, True])).stale_after_s.tolist() == pytest.approx(
        [np.nan] * 2, nan_ok=True
    )
    assert rows.where(np.array([False, True, False, True])).shards.tolist() == [1, 1]
    assert rows[-1] == TAGS[-1]
    with pytest.raises(IndexError):
        rows[4]


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    home.actor_data("plant/0").mkdir(parents=True, exist_ok=True)
    definitions.store(home, DefinitionTable(3, TAGS))
    table = definitions.load(home)
    definitions.store(home, DefinitionTable(4, []))  # another one takes its place: what is mapped stays
    assert (table.revision, list(table.tags)) == (3, TAGS)
    assert list(definitions.load(home).tags) == []
    assert table.find(7) == TAGS[2]
    assert dict(table.by_name) == {tag.name: tag for tag in TAGS}
    assert "hall.gone" not in table.by_name
    assert dict(ByName(table.of_shard(1))) == {tag.name: tag for tag in (TAGS[1], TAGS[3])}
    assert [table.find(handle) for handle in (0, 2, 10, -1, 1 << 40)] == [None] * 5
    assert (table.name_of(4), table.name_of(5), table.unit_of(1), table.unit_of(5)) == ("hall.kühler", "#5", "°C", "")
    assert [tag.name for tag in table.of_source("opcua/plc")] == ["hall.temp", "hall.count"]
    assert table.of_source("opcua/other") == []
    assert list(table.of_shard(1).names) == ["hall.kühler", "hall.count"]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_the_digest_is_that_of_the_array_of_all(count: int) -> None:
    tags = [TagDef(number + 1, f"t{number}", "float", 0, labels=("a",)) for number in range(count)]
    whole = hashlib.blake2b(pack(msgspec.to_builtins(tags)), digest_size=16).hexdigest()
    assert TagRows.of(tags).digest() == whole


def test_names_are_found_one_by_one_and_many_at_once() -> None:
    names = [f"t{number * 7919 % 1000}" for number in range(1000)]
    by_name = ByName(TagRows.of(TagDef(row + 1, name, "float", 0) for row, name in enumerate(names)))
    asked = [*names[::-1], "t", "zzz", ""]
    assert [by_name.get(name, TagDef(0, "", "", 0)).handle for name in asked] == [*range(1000, 0, -1), 0, 0, 0]
    few = by_name.rows_of(["t3", "gone"]).tolist()
    assert few == [names.index("t3"), -1]
    assert by_name.rows_of(asked).tolist() == [*range(999, -1, -1), -1, -1, -1]
    assert by_name.rows_of([]).tolist() == []
    assert (len(by_name), list(by_name)) == (1000, names)
    assert "gone" not in by_name


def test_a_column_of_names() -> None:
    column = NameColumn.of(["a", "kühler", "c.d"])
    assert (len(column), list(column), column[1], column[-1], column[1:]) == (
        3, ["a", "kühler", "c.d"], "kühler", "c.d", ["kühler", "c.d"],
    )  # fmt: skip
    part = NameColumn(column.data, 3, np.array([2, 0]))
    assert (len(part), list(part), part[0]) == (2, ["c.d", "a"], "c.d")
    assert list(NameColumn.of([])) == []
    with pytest.raises(IndexError):
        column[3]
    with pytest.raises(ValueError, match="3 names beside columns of 4 rows"):
        NameColumn(column.data, 4)[0]


@pytest.mark.parametrize("how", ["old", "short", "column", "empty"])
def test_a_file_that_is_none_is_told(tmp_path: Path, how: str) -> None:
    home = Home(tmp_path).create()
    path = home.actor_data("plant/0") / definitions.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    definitions.store(home, DefinitionTable(3, TAGS))
    whole = path.read_bytes()
    parts = msgspec.msgpack.decode(whole)
    parts[2][1] = parts[2][1][:-2]
    bodies = {
        "old": msgspec.msgpack.encode([1, 3, [["t", 1]]]), "short": whole[:-5],
        "column": msgspec.msgpack.encode(parts), "empty": b"",
    }  # fmt: skip
    path.write_bytes(bodies[how])
    with pytest.raises(ConfigError, match="no tag definitions"):
        definitions.load(home)


NAME = st.text("ab.", min_size=1, max_size=6)
GLOB = st.text("ab.*?", min_size=1, max_size=5)


@given(st.lists(NAME, unique=True), st.lists(st.one_of(NAME, GLOB, st.just("*")), max_size=4))
def test_globs_find_what_they_match(names: list[str], globs: list[str]) -> None:
    matches = compile_globs(globs)
    assert TagNames(names, sorted_rows(names)).mask(globs).tolist() == [matches(name) for name in names]


def test_globs_are_looked_at_before_one_is_used() -> None:
    with pytest.raises(Refused):
        TagNames([], sorted_rows([])).mask(["*", "a["])
