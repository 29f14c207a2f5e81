"""Handles and shards are for life."""

from __future__ import annotations

from pathlib import Path

from tagwerk.actors.plant.logic import Places, place_tags, shard_for
from tagwerk.actors.plant.store import PlantStore
from tagwerk.actors.plant.tags import PlantTags
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.inspection import PublishedTag
from tagwerk.runtime.plantfile import build


def test_a_shard_is_the_same_in_every_run() -> None:
    assert [shard_for(name, 4) for name in ("a", "brewhouse.kettle.temperature", "plc.fed")] == [0, 2, 3]
    assert {shard_for(f"t{number}", 3) for number in range(50)} == {0, 1, 2}
    assert shard_for("anything", 1) == 0


def placed(names: list[str], known: dict[str, tuple[int, int]], next_handle: int, shards: int) -> list[tuple[int, int]]:
    places = place(names, known, next_handle, shards)
    return list(zip(places.handles.tolist(), places.shards.tolist(), strict=True))


def place(names: list[str], known: dict[str, tuple[int, int]], next_handle: int, shards: int) -> Places:
    rows = {name: row for row, name in enumerate(names)}
    return place_tags(rows, [(name, *kept) for name, kept in known.items()], next_handle, shards)


def test_new_tags_get_rising_handles_in_order() -> None:
    assert placed(["b", "a"], {}, 5, 1) == [(5, 0), (6, 0)]
    assert place(["b", "a"], {}, 5, 1).changed.tolist() == [0, 1]
    assert placed([], {"a": (1, 0)}, 5, 1) == []


def test_a_known_tag_keeps_its_place_also_when_there_are_more_shards() -> None:
    known = {"a": (1, 0), "gone": (2, 1)}
    assert placed(["a", "b"], known, 3, 8) == [(1, 0), (3, shard_for("b", 8))]
    assert place(["a", "b"], known, 3, 8).changed.tolist() == [1]


def test_a_tag_that_comes_back_has_its_old_handle() -> None:
    assert placed(["gone"], {"gone": (2, 1)}, 3, 2) == [(2, 1)]
    assert place(["gone"], {"gone": (2, 1)}, 3, 2).changed.tolist() == []


def test_a_tag_whose_shard_is_no_more_moves_and_keeps_its_handle() -> None:
    assert placed(["a"], {"a": (4, 3)}, 9, 2) == [(4, shard_for("a", 2))]
    assert place(["a"], {"a": (4, 3)}, 9, 2).changed.tolist() == [0]


def test_the_tags_of_the_file_come_before_those_of_machines_and_their_definitions_by_handle(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("name,type,unit,description\nb,int,bar,first\na,float,,\n")
    tables = {"plant": {"tag_files": ["tags.csv"]}, "tag": {"t": {"default": 1.5, "labels": ["x"]}}}
    published = [PublishedTag("m", "bool", "", "machine/x", "runs"), PublishedTag("b", "bool", "", "machine/x", "")]
    tags = PlantTags(build(tables, tmp_path / "plant.toml").tags, published)
    names = tags.names()
    assert (names, len(tags)) == (["t", "b", "a", "m"], 4)
    assert tags.types() == [("float", ""), ("int", "bar"), ("float", ""), ("bool", "")]
    places = place(names, {"a": (1, 0), "m": (2, 1)}, 3, 2)
    assert list(tags.definitions(names, places)) == [
        TagDef(1, "a", "float", 0),
        TagDef(2, "m", "bool", 1, source="machine/x", description="runs"),
        TagDef(3, "t", "float", shard_for("t", 2), default=1.5, labels=("x",)),
        TagDef(4, "b", "int", shard_for("b", 2), unit="bar", description="first"),
    ]


def test_places_are_kept(tmp_path: Path) -> None:
    store = PlantStore(tmp_path / "plant.db")
    assert store.next_handle == 1
    store.keep([("a", 1, 0, "float", ""), ("b", 2, 1, "int", "bar")])
    store.keep([("b", 2, 0, "int", "bar")])
    assert list(store.tags()) == [("a", 1, 0, "float", ""), ("b", 2, 0, "int", "bar")]
    assert store.next_handle == 3
    store.close()
