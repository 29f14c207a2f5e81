"""What a view gets of what changed: everything once, in order, in frames that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tagwerk.actors.cvt.feed import Feed
from tagwerk.actors.cvt.logic.views import Change, View, frames_for, pieces
from tagwerk.protocols import quality as q
from tagwerk.protocols.codec import MAX_FRAME_BYTES
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.frames import BELL_TOPIC, FeedHeader, read_header, view_topic
from tagwerk.protocols.samples import Samples, ValueType, concatenate, decode, encode, make
from tagwerk.protocols.tag_names import TagNames, sorted_rows
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import TagDef
from tagwerk.runtime.transport_memory import MemoryNet, MemoryTransport

NAMES = ["a.x", "a.y", "b.x"]
FLOAT = ValueType.FLOAT


def view(*globs: str, sent: int = 0) -> View:
    return View(b"topic", globs, TagNames(NAMES, sorted_rows(NAMES)).mask(globs), 0, sent)


def change(position: int, handles: list[int], value: float = 0.0, *, opens: bool = False) -> Change:
    batch = make(FLOAT, handles, [value + position] * len(handles), position)
    return Change(batch, np.array(handles) - 1, position, 100 + position, opens)


def got(view: View, changes: list[Change]) -> list[tuple[list[list[int]], int, int]]:
    return [([part.tags.tolist() for part in decode(body)], upto, at) for body, upto, at in frames_for(view, changes)]


class TestFrames:
    def test_neighbours_of_one_type_are_joined(self) -> None:
        assert got(view("*"), [change(1, [1, 2]), change(2, [3])]) == [([[1, 2, 3]], 2, 102)]

    def test_a_view_gets_its_own_tags(self) -> None:
        assert got(view("a.*"), [change(1, [1, 3]), change(2, [3]), change(3, [2, 1])]) == [([[1, 2, 1]], 3, 103)]
        assert got(view("b.x"), [change(1, [1, 2])]) == []
        assert got(view("nothing"), [change(1, [1])]) == []

    def test_types_stay_in_order(self) -> None:
        changes = [
            change(1, [1]),
            Change(make(ValueType.QUALITY, [1], None, 5, q.BAD), np.array([0]), 2, 102),
            change(3, [1]),
        ]
        frames = list(frames_for(view("*"), changes))
        assert [batch.kind for batch in decode(frames[0][0])] == [FLOAT, ValueType.QUALITY, FLOAT]

    def test_what_was_before_the_view_is_not_sent(self) -> None:
        assert got(view("*", sent=2), [change(2, [1]), change(3, [2])]) == [([[2]], 3, 103)]

    def test_a_frame_does_not_reach_across_a_snapshot(self) -> None:
        changes = [change(1, [1]), change(2, [1], opens=True), change(3, [2])]
        assert got(view("*"), changes) == [([[1]], 1, 101), ([[1, 2]], 3, 103)]

    @pytest.mark.parametrize(
        "batch",
        [
            make(FLOAT, range(1, 3_001), [1.0] * 3_000, 0, q.BAD),
            make(ValueType.QUALITY, range(1, 20_001), None, 0, q.BAD),
            make(ValueType.STR, range(1, 101), ["ü" * 4_000] * 100, 0),
            make(ValueType.STR, [1], ["x" * 64_000], 0, q.BAD),
        ],
    )
    def test_every_piece_fits_into_a_frame(self, batch: Samples) -> None:
        rows = batch.tags.astype(np.intp) - 1
        parts = list(pieces(batch, rows))
        for part, part_rows in parts:
            assert len(encode([part])) <= MAX_FRAME_BYTES
            assert (part.tags == part_rows + 1).all()
        whole = concatenate([part for part, _ in parts])
        assert whole.tags.tolist() == batch.tags.tolist()

    def test_a_frame_is_bounded_however_many_changes_there_are(self) -> None:
        names = [str(number) for number in range(2_000)]
        wide = View(b"topic", ("*",), TagNames(names, sorted_rows(names)).mask(["*"]), 0)
        handles = list(range(1, 2_001))
        frames = list(frames_for(wide, [change(position, handles) for position in range(1, 8)]))
        assert len(frames) > 1
        assert all(len(body) <= MAX_FRAME_BYTES for body, _, _ in frames)
        assert [upto for _, upto, _ in frames] == sorted({upto for _, upto, _ in frames})

    def test_a_large_batch_goes_on_in_the_frame_that_it_came_in_and_stays_in_its_place(self) -> None:
        names = [f"t{number}" for number in range(2_000)]
        batch = make(FLOAT, np.arange(1, 2_001), np.ones(2_000), 5)
        large = Change(batch, np.arange(2_000), 2, 102, frame=encode([batch]))
        small = make(FLOAT, [1], [2.0], 6)
        changes = [Change(small, np.arange(1), 1, 101), large, Change(small, np.arange(1), 3, 103)]
        index = TagNames(names, sorted_rows(names))
        everything, one = (View(b"topic", globs, index.mask(globs), 0) for globs in (("*",), ("t0",)))
        frames = list(frames_for(everything, changes))
        assert [upto for _, upto, _ in frames] == [1, 2, 3]
        assert frames[1][0] is large.frame
        assert [batch.values.tolist() for body, _, _ in frames_for(one, changes) for batch in decode(body)] == [
            [2, 1, 2]
        ]


class Wire:
    """A feed and somebody who listens to one of its topics."""

    def __init__(self) -> None:
        transport = MemoryTransport(MemoryNet())
        self.feed = Feed(
            transport.publisher("feed"),
            TagRows.of(TagDef(at, name, "float", 0) for at, name in enumerate(NAMES, 1)),
            7,
            3,
        )
        self.port = transport.subscriber("feed")

    def heard(self) -> list[tuple[FeedHeader, list[Any]]]:
        found: list[tuple[FeedHeader, list[Any]]] = []
        while (frames := self.port.recv()) is not None:
            tags = [tag for batch in decode(frames[2]) for tag in batch.tags.tolist()] if frames[2] else []
            found.append((read_header(frames[1]), tags))
        return found

    def add(self, *handles: int) -> None:
        batch = make(FLOAT, handles, [1.0] * len(handles), 5)
        self.feed.add(batch, np.array(handles) - 1, 9)


class TestFeed:
    def test_frames_join_without_a_gap(self) -> None:
        wire = Wire()
        opened = wire.feed.open_view(["a.*"], 5.0, 0)
        wire.port.subscribe(opened.topic)
        wire.feed.subscriptions()
        wire.add(1)
        wire.add(3)
        wire.feed.flush(50)
        wire.add(3)
        wire.feed.flush(51)
        wire.add(2)
        wire.feed.beat(0)
        wire.feed.flush(52)
        headers = wire.heard()
        assert [(h.after, h.upto, h.beat, tags) for h, tags in headers] == [
            (0, 1, False, [1]), (1, 2, True, []), (2, 4, False, [2]), (4, 4, True, []),
        ]  # fmt: skip
        assert all((h.incarnation, h.revision) == (7, 3) for h, _ in headers)

    def test_a_newcomer_is_greeted(self) -> None:
        wire = Wire()
        topic = wire.feed.open_view(["a.*"], 5.0, 0).topic
        wire.feed.flush(1)
        assert wire.heard() == []
        wire.port.subscribe(topic)
        wire.feed.subscriptions()
        wire.feed.flush(2)
        assert [h.beat for h, _ in wire.heard()] == [True]

    def test_the_bell_rings_when_something_was_journaled(self) -> None:
        wire = Wire()
        wire.port.subscribe(BELL_TOPIC)
        wire.feed.flush(1)
        assert wire.heard() == []
        wire.feed.ring()
        wire.feed.flush(2)
        wire.feed.flush(3)
        assert len(wire.heard()) == 1

    def test_the_bell_is_silent_until_somebody_has_read_on(self) -> None:
        wire = Wire()
        wire.port.subscribe(BELL_TOPIC)
        for _ in range(3):
            wire.feed.ring()
            wire.feed.flush(1)
        assert len(wire.heard()) == 1
        wire.feed.arm_bell()
        wire.feed.flush(2)
        assert wire.heard() == []
        wire.feed.ring()
        wire.feed.flush(3)
        assert len(wire.heard()) == 1

    def test_who_begins_to_listen_for_the_bell_hears_it(self) -> None:
        """It may have rung before it could be heard."""
        wire = Wire()
        wire.feed.ring()
        wire.feed.flush(1)
        wire.port.subscribe(BELL_TOPIC)
        wire.feed.subscriptions()
        wire.feed.flush(2)
        assert len(wire.heard()) == 1

    def test_a_view_lives_by_its_lease(self) -> None:
        wire = Wire()
        one = wire.feed.open_view(["a.*"], 5.0, 0)
        assert wire.feed.open_view(["a.*"], 9.0, 0) is one
        wire.feed.beat(8_000_000_000)
        assert wire.feed.views == 1
        wire.feed.beat(9_000_000_001)
        assert wire.feed.views == 0
        assert wire.feed.view(view_topic(["a.*"])) is None

    def test_a_malformed_glob_is_refused(self) -> None:
        with pytest.raises(Refused):
            Wire().feed.open_view(["a[b]"], 5.0, 0)
        with pytest.raises(Refused):
            Wire().feed.open_view(["a"] * 20_000, 5.0, 0)
