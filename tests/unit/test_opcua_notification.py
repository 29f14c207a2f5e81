"""Publish responses: what asyncua writes we read, and nothing else crashes us."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from tagwerk.actors.opcua.asyncua_mends import odd_variant
from tagwerk.actors.opcua.notification import Published, read_published
from tagwerk.protocols.errors import RemoteProtocolError

NOW = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)
NOW_NS = 1_772_600_767_891_234_000


def body(parts: list[Any], sequence: int = 7) -> bytes:
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.IntegerId(3)
    response.Parameters.MoreNotifications = False
    response.Parameters.AvailableSequenceNumbers = [ua.Counter(5), ua.Counter(sequence)]
    response.Parameters.NotificationMessage.SequenceNumber = ua.Counter(sequence)
    response.Parameters.NotificationMessage.NotificationData = parts
    buffer = Buffer(struct_to_binary(response))
    nodeid_from_binary(buffer)
    struct_from_binary(ua.ResponseHeader, buffer)
    return bytes(buffer)


def change(*values: tuple[int, ua.DataValue]) -> ua.DataChangeNotification:
    notification = ua.DataChangeNotification()
    for item, value in values:
        one = ua.MonitoredItemNotification()
        one.ClientHandle = ua.IntegerId(item)
        one.Value = value
        notification.MonitoredItems.append(one)
    return notification


def value(content: Any, kind: ua.VariantType, **more: Any) -> ua.DataValue:
    return ua.DataValue(ua.Variant(content, kind), **more)


def read(*values: tuple[int, ua.DataValue]) -> Published:
    return read_published(body([change(*values)]), odd_variant)


def test_a_run_of_one_type_is_one_run() -> None:
    many = [(n, value(float(n), ua.VariantType.Double, SourceTimestamp=NOW, ServerTimestamp=NOW)) for n in range(1000)]
    published = read(*many)
    (run,) = published.runs
    assert (published.subscription, published.sequence, published.keepalive) == (3, 7, False)
    assert run.items.tolist() == list(range(1000))
    assert run.values is not None
    assert run.values[999] == 999.0
    assert set(run.source_ns.tolist()) == set(run.server_ns.tolist()) == {NOW_NS}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ua.VariantType.Boolean, True), (ua.VariantType.SByte, -5), (ua.VariantType.Byte, 200),
        (ua.VariantType.Int16, -300), (ua.VariantType.UInt16, 60_000), (ua.VariantType.Int32, -70_000),
        (ua.VariantType.UInt32, 4_000_000_000), (ua.VariantType.Int64, -(1 << 62)),
        (ua.VariantType.UInt64, (1 << 64) - 1), (ua.VariantType.Float, 0.5), (ua.VariantType.Double, 1e300),
        (ua.VariantType.String, "grün"), (ua.VariantType.String, None), (ua.VariantType.String, ""),
    ],
)  # fmt: skip
def test_every_type_of_a_tag(kind: ua.VariantType, content: Any) -> None:
    (run,) = read((4, value(content, kind, SourceTimestamp=NOW))).runs
    assert run.values is not None
    assert list(run.values) == [content]
    assert run.source_ns.tolist() == [NOW_NS]
    assert run.server_ns.tolist() == [0]


def test_types_that_take_turns() -> None:
    published = read(
        (0, value(1.0, ua.VariantType.Double)),
        (1, value("a", ua.VariantType.String, SourceTimestamp=NOW)),
        (2, value("b", ua.VariantType.String)),
        (3, value([1, 2], ua.VariantType.Int32)),
        (4, value(True, ua.VariantType.Boolean)),
        (5, ua.DataValue(ua.Variant(None, ua.VariantType.Null), StatusCode=ua.StatusCode(ua.UInt32(0x808C_0000)))),
        (6, value(2.0, ua.VariantType.Double)),
    )
    assert [item for run in published.runs for item in run.items.tolist()] == [0, 1, 2, 3, 4, 5, 6]
    assert published.runs[1].source_ns.tolist() == [NOW_NS, 0, 0]
    bad = published.runs[3]
    assert bad.values is None
    assert bad.status.tolist() == [0x808C_0000]


def test_more_records_than_are_looked_at_in_one_step() -> None:
    values = [(n, value(n, ua.VariantType.Int32)) for n in range(700)]
    values += [(n, value(float(n), ua.VariantType.Float)) for n in range(700, 900)]
    assert [len(run.items) for run in read(*values).runs] == [700, 200]


def test_a_keep_alive_says_nothing() -> None:
    published = read_published(body([], sequence=9), odd_variant)
    assert published.keepalive
    assert published.sequence == 9


def test_a_status_change_is_the_end() -> None:
    end = ua.StatusChangeNotification()
    end.Status = ua.StatusCode(ua.UInt32(0x800A_0000))
    assert read_published(body([end]), odd_variant).status == (0x800A_0000,)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_an_error(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        read_published(data, odd_variant)


SOUND = body(
    [
        change(
            (1, value(1.0, ua.VariantType.Double)),
            (2, value("x", ua.VariantType.String)),
            (3, value([1], ua.VariantType.Int32)),
        )
    ]
)


@given(st.integers(0, len(SOUND) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_a_response_or_an_error(place: int, byte: int) -> None:
    data = bytearray(SOUND)
    data[place] = byte
    with suppress(RemoteProtocolError):
        read_published(bytes(data), odd_variant)


@given(st.integers(0, len(SOUND) - 9))  # the last eight bytes are results and diagnostics, which nobody reads
def test_a_response_cut_short_is_an_error(length: int) -> None:
    try:
        published = read_published(SOUND[:length], odd_variant)
    except RemoteProtocolError:
        return
    assert published.runs == ()
