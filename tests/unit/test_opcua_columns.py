"""What a notification means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tagwerk.actors.opcua.logic.columns import (
    BAD_ENCODING_LIMITS_EXCEEDED,
    BAD_OUT_OF_RANGE,
    OVERFLOW_BITS,
    STRING_LIMIT,
    ItemColumns,
    Run,
    translate,
)
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, encode

FLOAT, INT, BOOL, STR = 0, 1, 2, 3  # item numbers
COLUMNS = ItemColumns(
    np.array([10, 11, 12, 13], np.uint32),
    np.array([ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR], np.uint8),
)


def run(items: list[int], values: Any, status: int = 0, source: int = 0, server: int = 0) -> Run:
    count = len(items)
    return Run(
        np.array(items, np.uint32),
        values,
        np.full(count, status, np.uint32),
        np.full(count, source, np.int64),
        np.full(count, server, np.int64),
    )


def batches(*runs: Run, time: str = "source") -> dict[ValueType, Samples]:
    found = translate(runs, COLUMNS, time, 99).batches
    encode(found)  # every batch has to go on the wire
    return {batch.kind: batch for batch in found}


def test_one_batch_a_type_in_the_order_of_the_wire() -> None:
    found = translate(
        [
            run([FLOAT, FLOAT], np.array([1.5, 2.5])),
            run([BOOL], np.array([True])),
            run([FLOAT], np.array([3.5])),
            run([STR], ["on"]),
            run([INT], np.array([7], np.int16)),
        ],
        COLUMNS, "source", 99,
    ).batches  # fmt: skip
    assert [batch.kind for batch in found] == [ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR]
    assert found[0].values.tolist() == [1.5, 2.5, 3.5]
    assert found[0].tags.tolist() == [10, 10, 10]
    assert found[1].values.dtype == np.int64


def test_a_value_of_another_type_is_a_type_mismatch_and_its_neighbours_pass() -> None:
    found = batches(run([FLOAT, BOOL, INT], np.array([1.0, 2.0, 3.0])))
    assert found[ValueType.FLOAT].tags.tolist() == [10]
    assert found[ValueType.QUALITY].tags.tolist() == [11, 12]
    assert set(found[ValueType.QUALITY].quality.tolist()) == {q.BAD_TYPE_MISMATCH}


def test_whole_numbers_fit_into_a_float_tag_and_a_flag_does_not() -> None:
    found = batches(run([FLOAT], np.array([5], np.uint16)), run([FLOAT], np.array([True])))
    assert found[ValueType.FLOAT].values.tolist() == [5.0]
    assert found[ValueType.QUALITY].quality.tolist() == [q.BAD_TYPE_MISMATCH]


def test_nan_and_none_are_bad_and_keep_the_value() -> None:
    found = batches(run([FLOAT], np.array([math.nan])), run([FLOAT, STR], [None, None]))
    assert set(found) == {ValueType.QUALITY}
    assert found[ValueType.QUALITY].quality.tolist() == [q.BAD] * 3


def test_a_bad_value_without_content_keeps_the_servers_reason() -> None:
    found = batches(run([FLOAT], None, status=q.BAD_SENSOR_FAILURE))
    assert found[ValueType.QUALITY].quality.tolist() == [q.BAD_SENSOR_FAILURE]


def test_an_uncertain_value_stays_a_value() -> None:
    found = batches(run([FLOAT], np.array([1.0]), status=q.UNCERTAIN_SENSOR))
    assert found[ValueType.FLOAT].quality.tolist() == [q.UNCERTAIN_SENSOR]


def test_overflow_is_counted_and_is_not_part_of_the_quality() -> None:
    translated = translate([run([FLOAT, FLOAT], np.array([1.0, 2.0]), status=OVERFLOW_BITS)], COLUMNS, "source", 99)
    assert translated.overflows == 2
    assert translated.batches[0].quality.tolist() == [q.GOOD, q.GOOD]


def test_items_that_nobody_asked_for_are_counted_and_dropped() -> None:
    translated = translate([run([9, FLOAT], np.array([1.0, 2.0])), run([8, STR], ["x", "y"])], COLUMNS, "source", 99)
    assert translated.foreign == 2
    assert [batch.tags.tolist() for batch in translated.batches] == [[10], [13]]


def test_whose_time_is_trusted() -> None:
    value = np.array([1.0])
    assert batches(run([FLOAT], value, source=5, server=7))[ValueType.FLOAT].times.tolist() == [5]
    assert batches(run([FLOAT], value, source=5, server=7), time="server")[ValueType.FLOAT].times.tolist() == [7]
    assert batches(run([FLOAT], value, source=5, server=7), time="received")[ValueType.FLOAT].times.tolist() == [99]


def test_a_time_that_is_missing_gives_way_to_the_next() -> None:
    value = np.array([1.0])
    assert batches(run([FLOAT], value, server=7))[ValueType.FLOAT].times.tolist() == [7]
    assert batches(run([FLOAT], value))[ValueType.FLOAT].times.tolist() == [99]
    assert batches(run([FLOAT], value, source=5), time="server")[ValueType.FLOAT].times.tolist() == [99]


def test_numbers_past_64_bit_are_out_of_range() -> None:
    found = batches(run([INT, INT], np.array([1, 1 << 63], np.uint64)), run([INT], [1 << 70]))
    assert found[ValueType.INT].values.tolist() == [1]
    assert found[ValueType.QUALITY].quality.tolist() == [BAD_OUT_OF_RANGE, BAD_OUT_OF_RANGE]


def test_a_string_that_fits_into_no_frame_is_bad() -> None:
    found = batches(run([STR, STR], ["ok", "x" * (STRING_LIMIT + 1)]))
    assert found[ValueType.STR].values == ["ok"]
    assert found[ValueType.QUALITY].quality.tolist() == [BAD_ENCODING_LIMITS_EXCEEDED]


def test_an_odd_object_is_a_type_mismatch() -> None:
    found = batches(run([FLOAT, STR], [object(), object()]))
    assert found[ValueType.QUALITY].quality.tolist() == [q.BAD_TYPE_MISMATCH] * 2
