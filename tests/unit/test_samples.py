"""Samples: columns in, a frame out, and the same columns back."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tagwerk.protocols import quality as q
from tagwerk.protocols.codec import MAX_FRAME_BYTES, pack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.samples import (
    MAX_TEXT_BYTES,
    Samples,
    TagValue,
    ValueType,
    concatenate,
    decode,
    encode,
    frame_rows,
    make,
    split,
    text_fits,
)

FLOAT, INT, BOOL, STR, QUALITY = ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR, ValueType.QUALITY


class Names:
    def name_of(self, handle: int) -> str:
        return f"tag{handle}"

    def unit_of(self, handle: int) -> str:
        return "degC"


def columns(batch: Samples) -> tuple[Any, ...]:
    values = batch.values if batch.values is None or isinstance(batch.values, list) else batch.values.tolist()
    return batch.kind, batch.tags.tolist(), values, batch.times.tolist(), batch.quality.tolist()


class TestMake:
    @pytest.mark.parametrize(
        ("kind", "values", "dtype"),
        [(FLOAT, [1, 2.5], "<f8"), (INT, [1, -(2**63)], "<i8"), (BOOL, [True, False], "?")],
    )
    def test_numbers_get_the_dtype_of_their_type(self, kind: ValueType, values: list[Any], dtype: str) -> None:
        batch = make(kind, [1, 2], values, 5)
        assert batch.values.dtype == np.dtype(dtype)
        assert columns(batch) == (kind, [1, 2], values, [5, 5], [0, 0])

    def test_texts_are_a_list(self) -> None:
        assert make(STR, [1], ("a",), 0).values == ["a"]

    def test_quality_alone_has_no_values(self) -> None:
        batch = make(QUALITY, [1, 2], None, [3, 4], q.BAD)
        assert columns(batch) == (QUALITY, [1, 2], None, [3, 4], [q.BAD, q.BAD])

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            (FLOAT, ["1"]), (FLOAT, [True]), (FLOAT, [None]), (INT, [1.0]), (INT, [True]), (INT, [2**63]),
            (INT, [2**70]), (BOOL, [1]), (STR, [1]), (STR, [None]), (STR, ["x" * (MAX_TEXT_BYTES + 1)]),
            (FLOAT, [1.0, 2.0]), (FLOAT, []), (STR, []),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, kind: ValueType, values: list[Any]) -> None:
        with pytest.raises(ValueError, match=r"."):
            make(kind, [1], values, 0)

    def test_the_longest_text_is_counted_in_bytes(self) -> None:
        assert text_fits("x" * MAX_TEXT_BYTES)
        assert not text_fits("ü" * (MAX_TEXT_BYTES // 2 + 1))
        assert len(encode([make(STR, [1], ["x" * MAX_TEXT_BYTES], 0, q.BAD)])) <= MAX_FRAME_BYTES


class TestRows:
    def test_a_row_is_a_tag_value(self) -> None:
        batch = Samples(
            FLOAT, np.array([7], "<u4"), np.array([1.5]), np.array([9], "<i8"), q.all_good(1), Names(), received_ns=11
        )
        assert list(batch.rows()) == [TagValue("tag7", 1.5, "degC", 0, 9, 11)]
        assert batch.names == ["tag7"]

    def test_without_a_value_it_is_none(self) -> None:
        batch = Samples(QUALITY, np.array([7], "<u4"), None, np.array([9], "<i8"), np.array([q.BAD], "<u4"), Names())
        row = next(batch.rows())
        assert (row.value, row.good) == (None, False)

    def test_names_need_a_catalog(self) -> None:
        with pytest.raises(LookupError):
            _ = make(FLOAT, [1], [1.0], 0).names

    def test_the_time_is_utc(self) -> None:
        value = TagValue("t", 1, "", 0, 1_700_000_000_123_456_789)
        assert value.time == datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
        assert value.good


class TestSelect:
    @pytest.mark.parametrize("batch", [make(FLOAT, [1, 2, 3], [1.0, 2.0, 3.0], [4, 5, 6]),
                                       make(STR, [1, 2, 3], ["a", "b", "c"], [4, 5, 6]),
                                       make(QUALITY, [1, 2, 3], None, [4, 5, 6], q.BAD)])  # fmt: skip
    def test_by_mask_and_by_index(self, batch: Samples) -> None:
        by_mask = batch.select(np.array([True, False, True]))
        by_index = batch.select(np.array([0, 2]))
        assert columns(by_mask) == columns(by_index)
        assert by_mask.tags.tolist() == [1, 3]
        assert batch.select(np.array([2, 0])).times.tolist() == [6, 4]

    def test_another_time(self) -> None:
        assert make(FLOAT, [1, 2], [1.0, 2.0], [4, 5]).at(9).times.tolist() == [9, 9]

    def test_joined(self) -> None:
        one, two = make(STR, [1], ["a"], 4), make(STR, [2], ["b"], 5)
        assert columns(concatenate([one, two])) == (STR, [1, 2], ["a", "b"], [4, 5], [0, 0])
        floats = [make(FLOAT, [1], [1.0], 4), make(FLOAT, [2], [2.0], 5, q.BAD)]
        assert columns(concatenate(floats)) == (FLOAT, [1, 2], [1.0, 2.0], [4, 5], [0, q.BAD])
        assert concatenate([one]) is one


class TestFrame:
    def test_every_type_comes_back(self) -> None:
        batches = [
            make(FLOAT, [1, 2], [1.5, math.inf], [3, -4]),
            make(INT, [1], [-(2**63)], 5, q.UNCERTAIN),
            make(BOOL, [1, 2], [True, False], 6),
            make(STR, [1, 2], ["", "Grüße"], 7),
            make(QUALITY, [2**32 - 1], None, 8, q.BAD),
            make(FLOAT, [], [], 0),
        ]
        assert [columns(batch) for batch in decode(encode(batches))] == [columns(batch) for batch in batches]

    def test_all_good_takes_no_bytes(self) -> None:
        good = encode([make(FLOAT, range(100), [0.0] * 100, 0)])
        bad = encode([make(FLOAT, range(100), [0.0] * 100, 0, q.BAD)])
        assert len(bad) - len(good) > 400

    def test_a_frame_is_bounded(self) -> None:
        with pytest.raises(ValueError, match="at most"):
            encode([make(FLOAT, range(4_000), [0.0] * 4_000, 0)])

    @pytest.mark.parametrize(
        "row",
        [
            [], 5, "abcde", b"abcde", {1: 0, 2: 0, 3: 0, 4: 0, 5: 0},
            [9, b"", b"", b"", None], [None, b"", b"", b"", None], [[], b"", b"", b"", None],
            [1, b"abc", b"", b"", None], [1, b"\0" * 4, b"\0" * 7, b"\0" * 8, None],
            [1, b"\0" * 4, b"\0" * 16, b"\0" * 8, None], [1, b"\0" * 4, None, b"\0" * 8, None],
            [1, b"\0" * 4, b"\0" * 8, b"\0" * 8, b"\0" * 8], [1, "aaaa", b"\0" * 8, b"\0" * 8, None],
            [1, b"\0" * 4, b"\0" * 8, [1], None], [3, b"\0" * 4, b"\2", b"\0" * 8, None],
            [4, b"\0" * 4, "a", b"\0" * 8, None], [4, b"\0" * 4, [1], b"\0" * 8, None],
            [4, b"\0" * 4, ["x" * (MAX_TEXT_BYTES + 1)], b"\0" * 8, None],
            [0, b"\0" * 4, b"\0" * 8, b"\0" * 8, None], [1, b"", b"", b"", None, None],
        ],
    )  # fmt: skip
    def test_a_malformed_batch_is_the_peers_fault(self, row: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            decode(pack([1, [row]]))

    @pytest.mark.parametrize("value", [None, [], [1], [2, []], [1, {}], [1, None], "frame"])
    def test_so_is_anything_that_is_no_frame(self, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            decode(pack(value))

    def test_it_grows_at_its_end(self) -> None:
        assert decode(pack([1, [], "later"])) == []

    def test_a_frame_over_the_limit_is_not_looked_at(self) -> None:
        with pytest.raises(RemoteProtocolError, match="at most"):
            decode(b"\x00" * (MAX_FRAME_BYTES + 1))


class TestSplit:
    def test_small_batches_share_a_frame(self) -> None:
        batches = [make(FLOAT, [1], [1.0], 0), make(STR, [1], ["a"], 0)]
        assert list(split(batches)) == [batches]

    @pytest.mark.parametrize(
        "batch",
        [
            make(FLOAT, range(10_000), np.arange(10_000.0), 1, q.BAD),
            make(STR, range(50), ["ü" * 2_000] * 50, 1, q.BAD),
            make(QUALITY, range(10_000), None, 1, q.BAD),
        ],
    )
    def test_a_large_batch_is_cut_and_nothing_is_lost(self, batch: Samples) -> None:
        groups = list(split([batch, batch]))
        assert len(groups) > 1
        back = [one for group in groups for one in decode(encode(group))]
        assert columns(concatenate(back)) == columns(concatenate([batch, batch]))

    def test_one_text_that_is_too_long_cannot_be_cut(self) -> None:
        batch = Samples(STR, np.array([1], "<u4"), ["x" * 70_000], np.array([1], "<i8"), q.all_good(1))
        with pytest.raises(ValueError, match="one string"):
            list(split([batch]))

    def test_nothing_is_no_frame(self) -> None:
        assert list(split([])) == []


@pytest.mark.parametrize("number", [True, 1.0])
def test_what_is_taken_can_be_read_again_from_a_journal(number: Any) -> None:
    batch = [1, b"\1\0\0\0", bytes(8), bytes(8), None]
    assert (
        len(frame_rows(pack([1, [batch], "of a newer peer"])))
        == len(decode(pack([1, [batch], "of a newer peer"])))
        == 1
    )
    for odd in (pack([number, [batch]]), pack([1, [[number, *batch[1:]]]])):
        with pytest.raises(RemoteProtocolError):
            decode(odd)
