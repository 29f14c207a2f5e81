"""Messages and headers: typed, checked where they come from outside, and growing only at their end."""

from __future__ import annotations

from typing import Any

import pytest

from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.frames import (
    BELL_TOPIC,
    AckHeader,
    FeedHeader,
    Kind,
    OpenHeader,
    canonical_globs,
    pack_feed_header,
    pack_header,
    read_header,
    read_link_header,
    view_topic,
)
from tagwerk.protocols.message import Done, Message, Refusal, decode_message, encode_message
from tagwerk.protocols.tags import JournalPage, PositionMark, ReadTags, TagDef, TagState, TagStates, ViewSnapshot


@pytest.mark.parametrize(
    "message",
    [
        Done(),
        Refusal("UnknownTag", "there is none", "a.b"),
        ReadTags((1, 2)),
        TagStates((TagState(1, 1.5, 0, 7, 8, "erp"), TagState(2, None, 2**31, 0, 0), TagState(3, "x", 0, 1, 1))),
        JournalPage(PositionMark(2**64 - 1, 1, 5), (b"\0", b"\xff"), True, 9, (1, 4)),
        ViewSnapshot(b"12345678", 1, 2, 3, (b"\x92\x01\x90",)),
    ],
)
def test_what_is_encoded_comes_back(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_a_message_is_a_list_that_starts_with_its_name() -> None:
    assert encode_message(ReadTags((1,))) == pack(["ReadTags", [1]])


def test_fields_may_be_added_at_the_end() -> None:
    assert decode_message(pack(["Refusal", "BadValue", "no"])) == Refusal("BadValue", "no")
    assert decode_message(pack(["Refusal", "BadValue", "no", "a.b", "a field of a later version"])) == Refusal(
        "BadValue", "no", "a.b"
    )
    assert TagDef(1, "a", "float", 0).log


@pytest.mark.parametrize(
    "value",
    [
        None, 5, [], [5], ["Nobody"], ["ReadTags"], ["ReadTags", 5], ["ReadTags", ["x"]], ["ReadTags", [1.5]],
        ["Refusal", "x"], ["Record"], ["Message"], {"ReadTags": []}, [b"Done"], ["ReadTags", {}],
    ],
)  # fmt: skip
def test_anything_else_is_the_peers_fault(value: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(pack(value))


def test_a_message_is_bounded() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(encode_message(Refusal("x", "y" * 100)), max_bytes=50)


class TestHeaders:
    def test_each_kind_has_its_class(self) -> None:
        opened = read_header(pack_header(Kind.OPEN, 5, "erp", 7, True))
        assert opened == OpenHeader(1, Kind.OPEN, 5, "erp", 7, True)
        feed = read_header(pack_feed_header(1, 2, 3, 4, 5, beat=True))
        assert feed == FeedHeader(1, 0, 1, 2, 3, 4, 5, True)

    @pytest.mark.parametrize("kind", list(Kind))
    def test_every_kind_is_known(self, kind: Kind) -> None:
        with pytest.raises(RemoteProtocolError, match=f"header of kind {int(kind)}"):
            read_header(pack_header(kind))

    def test_fields_may_be_added_at_the_end(self) -> None:
        assert read_header(pack_header(Kind.ACK, 5, 6)) == AckHeader(1, Kind.ACK, 5, 6)
        assert read_header(pack_header(Kind.ACK, 5, 6, [], [], "later")) == AckHeader(1, Kind.ACK, 5, 6)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            [1],
            [2, 1],
            [1, 99],
            [1, True],
            [1, "OPEN"],
            [1, [1]],
            [True, 16],
            [1, 17, "5", 1],
            [1, 17, 5, 1.5],
        ],
    )
    def test_anything_else_is_the_peers_fault(self, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            read_header(pack(value))

    def test_another_version_is_named(self) -> None:
        with pytest.raises(RemoteProtocolError, match="version 2"):
            read_header(pack([2, 16]))

    def test_a_feed_header_does_not_belong_on_a_sending_lane(self) -> None:
        with pytest.raises(RemoteProtocolError, match="feed header"):
            read_link_header(pack_feed_header(1, 2, 3, 4, 5, beat=False))
        assert read_link_header(pack_header(Kind.BEAT, 5)).session == 5


class TestTopics:
    def test_the_topic_does_not_depend_on_order_or_repetition(self) -> None:
        assert view_topic(["b", "a", "b"]) == view_topic(("a", "b"))
        assert canonical_globs(["b", "a", "b"]) == ("a", "b")
        assert view_topic(["a"]) != view_topic(["b"])

    def test_all_topics_are_of_one_length(self) -> None:
        assert len(view_topic([])) == len(view_topic(["*"])) == len(BELL_TOPIC) == 8
