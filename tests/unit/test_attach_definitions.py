"""What a client knows of tags: from the file of plant/0, or by messages; and the batches that it makes of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tagwerk.protocols.errors import Refused
from tagwerk.protocols.message import Message
from tagwerk.protocols.samples import ValueType
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import Definitions, GetDefinitions, TagDef
from tagwerk.runtime import definitions
from tagwerk.runtime.attach_ask import Asker
from tagwerk.runtime.attach_definitions import definitions_of
from tagwerk.runtime.attach_values import batch_of
from tagwerk.runtime.definitions import DefinitionTable
from tagwerk.runtime.home import Home

TAGS = [
    TagDef(1, "hall.temp", "float", 0),
    TagDef(3, "hall.level", "float", 1),
    TagDef(4, "hall.count", "int", 1),
]


class PlantTwin:
    """plant/0, which answers with at most two tags a page."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.asked: list[GetDefinitions] = []

    def query(self, actor: str, message: GetDefinitions, reply: type[Message]) -> Definitions:
        assert (actor, reply) == ("plant/0", Definitions)
        self.asked.append(message)
        return Definitions(self.revision, len(TAGS), tuple(TAGS[message.start :][: min(2, message.limit)]))


def asked_for(home: Home, revision: int) -> tuple[DefinitionTable, list[int]]:
    twin = PlantTwin(revision)
    table = definitions_of(cast("Asker", twin), home)
    return table, [message.start for message in twin.asked]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path).create()
    made.actor_data("plant/0").mkdir(parents=True, exist_ok=True)
    return made


def test_the_file_is_taken_if_it_is_what_plant_serves(home: Home) -> None:
    definitions.store(home, DefinitionTable(7, TAGS))
    table, asked = asked_for(home, 7)
    assert (table.revision, list(table.tags), asked) == (7, TAGS, [0])


def test_of_another_revision_or_without_a_file_they_come_by_messages(home: Home) -> None:
    table, asked = asked_for(home, 8)
    assert (table.revision, list(table.tags), asked) == (8, TAGS, [0, 0, 2])
    definitions.store(home, DefinitionTable(7, TAGS))
    table, asked = asked_for(home, 8)
    assert (table.revision, list(table.tags), asked) == (8, TAGS, [0, 0, 2])


def batch(rows: list[int], values: Any) -> Any:
    return batch_of(TagRows.of(TAGS), np.array(rows, np.intp), values, 5, None)


def test_a_batch_has_the_handles_and_the_type_of_its_tags() -> None:
    made = batch([1, 0, 1], [1.5, None, 2])
    assert (made.kind, made.tags.tolist(), made.times.tolist()) == (ValueType.FLOAT, [3, 1, 3], [5, 5, 5])
    assert np.nan_to_num(made.values, nan=-1).tolist() == [1.5, -1.0, 2.0]
    assert not made.tags.flags.writeable
    assert (batch([2], [7]).kind, batch([2], [7]).values.tolist()) == (ValueType.INT, [7])
    assert len(batch([], [])) == 0


def test_a_batch_of_several_types_or_of_other_values_is_refused_with_its_first_tag() -> None:
    with pytest.raises(Refused, match=r"different types \(float, int\): one batch a type") as caught:
        batch([1, 2], [1.0, 2])
    assert caught.value.tag == "hall.level"
    with pytest.raises(Refused, match=r"hall.count"):
        batch([2], ["x"])
