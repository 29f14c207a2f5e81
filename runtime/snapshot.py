"""A table's snapshots: the newest, and one that is on the disk: a torn one costs a longer replay and no more."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.journal_files import sync_directory
from tagwerk.runtime.journal_segments import Buffer, Position, byte_count

_HEADER: Final = struct.Struct("<4sIQQQQI")  # magic, layout, journal, incarnation, n, payload bytes, payload CRC
_CRC: Final = struct.Struct("<I")
_HEADER_BYTES: Final = _HEADER.size + _CRC.size
_MAGIC: Final = b"TWS1"
_LAYOUT: Final = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it was.

    Attributes:
        position: The journal's place that it holds everything up to.
        payload: The table, as it was given.
    """

    position: Position
    payload: bytes


def write_snapshot(path: Path, position: Position, payload: Sequence[Buffer]) -> None:
    """Put a snapshot in the place of the newest. A power cut may tear it before it is settled.

    Args:
        path: The newest snapshot; the settled one is beside it as `*.old`.
        position: The journal's place that the payload holds everything up to.
        payload: The table, in pieces that are written one after the other.

    Raises:
        OSError: It is not written; the earlier ones stay.
    """
    size, crc = 0, 0
    for piece in payload:
        size += byte_count(piece)
        crc = crc32(piece, crc)
    head = _HEADER.pack(_MAGIC, _LAYOUT, position.journal, position.incarnation, position.n, size, crc)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb", opener=_private) as file:
        file.write(head + _CRC.pack(crc32(head)))
        file.writelines(payload)
    temporary.replace(path)


def hold_snapshot(path: Path) -> None:
    """Keep the newest as it is, whatever takes its place, for `settle_snapshot`.

    Raises:
        OSError: It is not kept.
    """
    held = path.with_name(path.name + ".held")
    held.unlink(missing_ok=True)
    held.hardlink_to(path)


def settle_snapshot(path: Path) -> None:
    """Put the held snapshot on the disk and in the place of the one that was settled before. Takes its time.

    Raises:
        OSError: The one that was settled before stays.
    """
    held = path.with_name(path.name + ".held")
    with held.open("rb") as file:
        os.fdatasync(file.fileno())
    held.replace(_older(path))
    sync_directory(path.parent)


def read_snapshot(path: Path) -> Snapshot | None:
    """Read the newest snapshot that is whole; None if none is.

    Raises:
        ConfigError: A newer version has written it: without it values would be lost that no journal has any more.
    """
    for candidate in (path, _older(path)):
        snapshot = _read(candidate)
        if snapshot is not None:
            return snapshot
    return None


def kept_after(path: Path) -> Position | None:
    """Give the place of the settled snapshot: no power cut makes records up to it necessary. None if there is none."""
    return _position(_older(path))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _unpack(data: bytes) -> tuple[Position, int, int] | None:
    if len(data) < _HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        return None
    magic, layout, journal, incarnation, n, size, crc = _HEADER.unpack_from(data)
    return (Position(journal, incarnation, n), size, crc) if magic == _MAGIC and layout == _LAYOUT else None


def _refuse_newer(path: Path, data: bytes) -> None:
    if len(data) < _HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        return  # torn
    magic, layout, *_ = _HEADER.unpack_from(data)
    if magic == _MAGIC and layout > _LAYOUT:
        message = "the snapshot of the table has another layout, of a newer version of tagwerk"
        raise ConfigError(message, file=str(path), value=str(layout), expected=str(_LAYOUT))


def _position(path: Path) -> Position | None:
    try:
        with path.open("rb") as file:
            header = _unpack(file.read(_HEADER_BYTES))
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    if header is None or size != _HEADER_BYTES + header[1]:
        return None
    return header[0]


def _read(path: Path) -> Snapshot | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    header = _unpack(data)
    if header is None:
        _refuse_newer(path, data)
        return None
    position, size, crc = header
    payload = data[_HEADER_BYTES:]
    return Snapshot(position, payload) if len(payload) == size and crc32(payload) == crc else None
