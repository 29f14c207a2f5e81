"""The codec: msgpack, bounded in size, count and depth; nonsense is a `RemoteProtocolError`, never anything else."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import msgspec

from tagwerk.protocols.errors import RemoteProtocolError

VERSION: Final = 1
"""First element of every header on the wire."""

MAX_FRAME_BYTES: Final = 65_536
"""Largest samples frame. So a high-water mark of messages is a bound of bytes."""

MAX_BODY_BYTES: Final = 64 << 20
"""Largest body of a control message (a snapshot or a history page)."""

MAX_ITEMS: Final = 1 << 20
MAX_DEPTH: Final = 16


def _plain(value: object) -> object:
    """What is a float, but not of that very class: numpy's."""
    if isinstance(value, float):
        return float(value)
    msg = f"{type(value).__name__} cannot be encoded"
    raise TypeError(msg)


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)


def pack(value: object) -> bytes:
    """Encode builtins (None, bool, int, float, str, bytes, list, dict), and messages.

    Raises:
        OverflowError: An int past 64 bits.
        ValueError: A text that is none: half a surrogate pair.
        TypeError: Anything else.
    """
    return _ENCODER.encode(value)


def unpack(data: bytes | memoryview, *, max_bytes: int = MAX_BODY_BYTES, max_depth: int | None = MAX_DEPTH) -> Any:
    """Decode one value that fills `data` exactly.

    Args:
        data: The bytes as they came.
        max_bytes: More than this is refused before it is looked at.
        max_depth: Deeper than this is refused; None where the caller checks each level by itself.

    Raises:
        RemoteProtocolError: Not msgpack, too large, too deep, or bytes left over.
    """
    size = len(data)
    if size > max_bytes:
        msg = f"frame of {size} bytes, at most {max_bytes} are taken"
        raise RemoteProtocolError(msg)
    try:
        value = msgpack.unpackb(
            data,
            strict_map_key=False,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, MAX_ITEMS),
            max_map_len=min(size // 2, MAX_ITEMS),
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        msg = f"not a msgpack value: {error}"
        raise RemoteProtocolError(msg) from error
    if max_depth is not None:
        check_depth(value, max_depth)
    return value


def check_depth(value: object, limit: int = MAX_DEPTH) -> None:
    """Refuse a value that nests deeper than `limit` lists or maps.

    Raises:
        RemoteProtocolError: Too deep.
    """
    level: list[Any] = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    msg = f"value nests deeper than {limit}"
    raise RemoteProtocolError(msg)


def _inside(value: Any) -> list[Any]:
    if type(value) is list:
        return [item for item in value if type(item) is list or type(item) is dict]
    if type(value) is dict:
        return [item for item in value.values() if type(item) is list or type(item) is dict]
    return []
