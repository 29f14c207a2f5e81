"""The codec takes builtins and gives them back, and meets everything else with one error."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from tagwerk.protocols.codec import MAX_DEPTH, check_depth, pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**64 - 1,
        -(2**63),
        1.5,
        "Grüße",
        b"\0\xff",
        [],
        [1, [2, "x"]],
        {"a": {1: b""}},
        nested(MAX_DEPTH),
    ],
)
def test_what_is_packed_comes_back(value: Any) -> None:
    assert unpack(pack(value)) == value
    assert unpack(memoryview(pack(value))) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x01\x01",
        b"\xa2\xff\xfe",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\x90\x01",
        b"\xc7\x00\xff",
        b"\xd4\x05\x00",
        b"\x91" * 2_000 + b"\x01",
    ],
)
def test_anything_else_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(data)


def test_a_large_frame_is_refused_before_it_is_looked_at() -> None:
    assert unpack(pack(b"x" * 90), max_bytes=100) == b"x" * 90
    with pytest.raises(RemoteProtocolError, match="at most 100"):
        unpack(b"\xc1" * 101, max_bytes=100)


def test_depth_is_bounded_in_lists_and_maps() -> None:
    with pytest.raises(RemoteProtocolError, match="deeper"):
        unpack(pack(nested(MAX_DEPTH + 1)))
    with pytest.raises(RemoteProtocolError, match="deeper"):
        check_depth({"a": {"b": [{"c": 1}]}}, 2)
    check_depth({"a": [1, "x"]}, 2)


def test_an_extension_type_is_not_ours() -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(bytes(msgpack.packb(msgpack.ExtType(5, b"12345678")) or b""))
