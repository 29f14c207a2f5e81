"""A publish response, from bytes to columns (OPC 10000-6, 5.2). Values of one type in a row are read without a loop.

asyncua makes four objects a value and takes 11 us for it; here a thousand take 64 us (measured), because a run of equal
records is one numpy view. What is rare (arrays, structures) goes through asyncua, one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tagwerk.actors.opcua.logic.columns import Run
from tagwerk.protocols.errors import RemoteProtocolError

FILETIME_EPOCH: Final = 116_444_736_000_000_000
"""1970-01-01 in 100 ns since 1601-01-01."""
_FILETIME_END: Final = FILETIME_EPOCH + (1 << 63) // 100

_DATA_CHANGE, _STATUS_CHANGE = 811, 820  # i=..., their binary encodings in namespace 0
_HAS_VALUE, _HAS_STATUS, _HAS_SOURCE, _HAS_SERVER, _HAS_SOURCE_PICO, _HAS_SERVER_PICO = 1, 2, 4, 8, 16, 32
_NULL, _STRING = 0, 12

_FIXED: Final = MappingProxyType(
    {1: "u1", 2: "<i1", 3: "<u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}
)
_LOOK_FIRST: Final = 64  # records compared at once at first; doubled while they are equal

Odd = Callable[[bytes, int], tuple[Any, int]]
"""Reads a Variant of any type at a place: (scalar or None, place after it)."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one publish response says.

    Args:
        subscription: Its id.
        sequence: Of the notification; of the next one in a keep-alive.
        keepalive: It says nothing but that the subscription lives.
        more: Further notifications wait on the server.
        runs: The values, in the order they came.
        status: StatusCodes of status changes: the subscription is over.
    """

    subscription: int
    sequence: int
    keepalive: bool
    more: bool
    runs: tuple[Run, ...]
    status: tuple[int, ...]


def read_published(data: bytes, odd: Odd) -> Published:
    """Read the parameters of a PublishResponse (what follows its header).

    Raises:
        RemoteProtocolError: It is cut short, or not one.
    """
    try:
        return _read(data, odd)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise RemoteProtocolError(f"publish response cannot be read: {error}") from error


def read_republished(data: bytes, odd: Odd) -> Published:
    """Read the parameters of a RepublishResponse (what follows its header). It does not say of which subscription.

    Raises:
        RemoteProtocolError: It is cut short, or not one.
    """
    try:
        return _message(data, 0, odd, subscription=0, more=False)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise RemoteProtocolError(f"republish response cannot be read: {error}") from error


def _read(data: bytes, odd: Odd) -> Published:
    subscription, numbers = struct.unpack_from("<Ii", data, 0)
    pos = 8 + 4 * max(0, numbers)
    return _message(data, pos + 1, odd, subscription, more=data[pos] != 0)


def _message(data: bytes, pos: int, odd: Odd, subscription: int, *, more: bool) -> Published:
    sequence, _published, parts = struct.unpack_from("<Iqi", data, pos)
    pos += 16
    runs: list[Run] = []
    status: list[int] = []
    for _ in range(max(0, parts)):
        kind, pos = _type_id(data, pos)
        encoding = data[pos]
        pos += 1
        if encoding == 0:
            continue
        (length,) = struct.unpack_from("<i", data, pos)
        start, pos = pos + 4, pos + 4 + max(0, length)
        if pos > len(data):
            raise ValueError(f"a part of {length} bytes in {len(data)}")
        if kind == _DATA_CHANGE:
            runs.extend(_data_change(data, start, pos, odd))
        elif kind == _STATUS_CHANGE:
            status.append(struct.unpack_from("<I", data, start)[0])
    return Published(subscription, sequence, parts <= 0, more, tuple(runs), tuple(status))


def _type_id(data: bytes, pos: int) -> tuple[int, int]:
    """A NodeId of namespace 0 as its number (-1 if it is another one), and the place after it."""
    form = data[pos] & 0x3F
    if form == 0:
        return data[pos + 1], pos + 2
    if form == 1:
        namespace, number = struct.unpack_from("<BH", data, pos + 1)
        return (number if namespace == 0 else -1), pos + 4
    if form == 2:
        namespace, number = struct.unpack_from("<HI", data, pos + 1)
        return (number if namespace == 0 else -1), pos + 7
    if form in (3, 5):
        (length,) = struct.unpack_from("<i", data, pos + 3)
        return -1, pos + 7 + max(0, length)
    if form == 4:
        return -1, pos + 19
    raise ValueError(f"a NodeId of form {form}")


@cache
def _record(mask: int, code: int) -> np.dtype[Any]:
    """One MonitoredItemNotification with these parts, packed."""
    fields: list[tuple[str, str]] = [("item", "<u4"), ("mask", "u1")]
    if mask & _HAS_VALUE:
        fields.append(("code", "u1"))
        if code != _NULL:
            fields.append(("value", _FIXED[code]))
    return np.dtype(fields + _tail(mask))


def _tail(mask: int) -> list[tuple[str, str]]:
    parts = [
        (_HAS_STATUS, "status", "<u4"),
        (_HAS_SOURCE, "source", "<i8"),
        (_HAS_SOURCE_PICO, "source_pico", "<u2"),
        (_HAS_SERVER, "server", "<i8"),
        (_HAS_SERVER_PICO, "server_pico", "<u2"),
    ]
    return [(name, form) for bit, name, form in parts if mask & bit]


def _data_change(data: bytes, pos: int, end: int, odd: Odd) -> list[Run]:
    (left,) = struct.unpack_from("<i", data, pos)
    pos += 4
    runs: list[Run] = []
    while left > 0:
        mask = data[pos + 4]
        code = data[pos + 5] if mask & _HAS_VALUE else _NULL
        if code == _NULL or code in _FIXED:
            run, pos = _uniform(data, pos, end, left, _record(mask, code), mask, code)
        else:
            run, pos = _mixed(data, pos, end, left, odd)
        runs.append(run)
        left -= len(run.items)
    return runs


def _uniform(
    data: bytes, pos: int, end: int, left: int, record: np.dtype[Any], mask: int, code: int
) -> tuple[Run, int]:
    """As many equal records as stand here in a row, as views."""
    most = min(left, (end - pos) // record.itemsize)
    if most <= 0:
        raise ValueError("a value is cut short")
    count, look = 0, min(most, _LOOK_FIRST)
    while True:
        rows = np.frombuffer(data, record, look, pos)
        same = rows["mask"] == mask
        if mask & _HAS_VALUE:
            same &= rows["code"] == code
        count = look if same.all() else int(np.argmin(same))
        if count < look or look == most:
            break
        look = min(most, look * 2)
    rows = rows[:count]
    values: Any = None
    if code != _NULL:
        values = rows["value"] != 0 if code == 1 else rows["value"]
    return _run(rows, values), pos + count * record.itemsize


def _run(rows: NDArray[Any], values: Any) -> Run:
    names = rows.dtype.names or ()
    count = len(rows)
    status = rows["status"] if "status" in names else np.zeros(count, np.uint32)
    source = from_filetime(rows["source"]) if "source" in names else np.zeros(count, np.int64)
    server = from_filetime(rows["server"]) if "server" in names else np.zeros(count, np.int64)
    return Run(rows["item"], values, status, source, server)


def _mixed(data: bytes, pos: int, end: int, left: int, odd: Odd) -> tuple[Run, int]:
    """Strings and odd types, one by one, up to the next number."""
    tails: list[tuple[int, int, int, int]] = []
    values: list[Any] = []
    while left > 0 and pos < end:
        mask = data[pos + 4]
        code = data[pos + 5] if mask & _HAS_VALUE else _NULL
        if code == _NULL or code in _FIXED:
            break
        (item,) = struct.unpack_from("<I", data, pos)
        value, pos = _string(data, pos + 6) if code == _STRING else odd(data, pos + 5)
        values.append(value)
        tail = np.dtype([("item", "<u4"), *_tail(mask)])
        row = np.frombuffer(struct.pack("<I", item) + data[pos : pos + tail.itemsize - 4], tail, 1)
        run = _run(row, None)
        tails.append((item, int(run.status[0]), int(run.source_ns[0]), int(run.server_ns[0])))
        pos += tail.itemsize - 4
        left -= 1
    if not tails:
        raise ValueError("a value is cut short")
    items, status, source, server = zip(*tails, strict=True)
    run = Run(
        np.array(items, np.uint32), values, np.array(status, np.uint32), np.array(source, np.int64),
        np.array(server, np.int64),
    )  # fmt: skip
    return run, pos


def _string(data: bytes, pos: int) -> tuple[str | None, int]:
    (length,) = struct.unpack_from("<i", data, pos)
    pos += 4
    if length < 0:
        return None, pos
    if pos + length > len(data):
        raise ValueError("a string is cut short")
    return data[pos : pos + length].decode(errors="replace"), pos + length


def from_filetime(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """FILETIME (100 ns since 1601) to ns since 1970, int64 (n,); 0 where it is none, or not of this age."""
    sound = (times > FILETIME_EPOCH) & (times < _FILETIME_END)
    return np.where(sound, (np.where(sound, times, FILETIME_EPOCH) - FILETIME_EPOCH) * 100, 0)
