"""Handles and shards are for life."""

from __future__ import annotations

from tagwerk.actors.plant.logic import Place, place_tags, shard_for


def test_a_shard_is_the_same_in_every_run() -> None:
    assert [shard_for(name, 4) for name in ("a", "brewhouse.kettle.temperature", "plc.fed")] == [0, 2, 3]
    assert {shard_for(f"t{number}", 3) for number in range(50)} == {0, 1, 2}
    assert shard_for("anything", 1) == 0


def test_new_tags_get_rising_handles_in_order() -> None:
    places, new = place_tags(["b", "a"], {}, 5, 1)
    assert places == new == {"b": Place(5, 0), "a": Place(6, 0)}


def test_a_known_tag_keeps_its_place_also_when_there_are_more_shards() -> None:
    known = {"a": Place(1, 0), "gone": Place(2, 1)}
    places, new = place_tags(["a", "b"], known, 3, 8)
    assert places["a"] == Place(1, 0)
    assert set(new) == {"b"}
    assert new["b"].handle == 3


def test_a_tag_that_comes_back_has_its_old_handle() -> None:
    places, new = place_tags(["gone"], {"gone": Place(2, 1)}, 3, 2)
    assert places == {"gone": Place(2, 1)}
    assert new == {}


def test_a_tag_whose_shard_is_no_more_moves_and_keeps_its_handle() -> None:
    places, new = place_tags(["a"], {"a": Place(4, 3)}, 9, 2)
    assert places["a"] == Place(4, shard_for("a", 2))
    assert set(new) == {"a"}
