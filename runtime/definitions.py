"""The tag definitions as `plant/0` last published them: one file that a restarted actor reads without asking anyone."""

from __future__ import annotations

import mmap
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.protocols.tag_rows import ByName, Packed, TagRows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from tagwerk.protocols.tags import TagDef
    from tagwerk.runtime.home import Home

FILE: Final = "definitions.msgpack"
FORMAT: Final = 3
NO_SHARD: Final = 0xFFFF
NO_ROW: Final = -1


class _File(msgspec.Struct, array_like=True):
    """What is in the file. `packed`: of the form `Packed`, if `form` is `FORMAT`."""

    form: int
    revision: int
    packed: msgspec.Raw


class DefinitionTable:
    """All tag definitions at one revision.

    Args:
        revision: Grows with each change.
        tags: In the order of their handles.
    """

    def __init__(self, revision: int, tags: TagRows | Iterable[TagDef]) -> None:
        self.revision = revision
        self.tags = tags if isinstance(tags, TagRows) else TagRows.of(tags)

    @cached_property
    def _rows(self) -> NDArray[np.int32]:
        """The row of each handle. Made when somebody asks: a shard knows its own rows, and asks for none."""
        handles = self.tags.handles
        rows: NDArray[np.int32] = np.full(int(handles.max(initial=0)) + 1, NO_ROW, np.int32)
        rows[handles] = np.arange(len(handles))
        return rows

    @cached_property
    def _shards(self) -> NDArray[np.uint16]:
        """The shard of each handle. Made when somebody asks, as most actors publish nothing."""
        handles = self.tags.handles
        shards: NDArray[np.uint16] = np.full(int(handles.max(initial=0)) + 1, NO_SHARD, np.uint16)
        shards[handles] = self.tags.shards
        return shards

    @cached_property
    def by_name(self) -> ByName:
        """The tags by their names."""
        return ByName(self.tags)

    def shard_of(self, handles: NDArray[np.uint32]) -> NDArray[np.integer[Any]]:
        """The shard of each handle.

        Args:
            handles: uint32 (n,).

        Returns:
            uint16 (n,).

        Raises:
            Refused: A handle is not known (UnknownTag).
        """
        try:
            shards = self._shards[handles]
        except IndexError:
            raise Refused("UnknownTag", f"no tag has the handle {int(handles.max())}") from None
        if len(shards) and shards.max() == NO_SHARD:
            raise Refused("UnknownTag", f"no tag has the handle {int(handles[shards == NO_SHARD][0])}")
        return shards

    def _row(self, handle: int) -> int:
        return int(self._rows[handle]) if 0 <= handle < len(self._rows) else NO_ROW

    def find(self, handle: int) -> TagDef | None:
        """The tag of a handle, None if there is none."""
        row = self._row(handle)
        return None if row == NO_ROW else self.tags[row]

    def name_of(self, handle: int) -> str:
        """The tag's name; a handle that this table does not know is `#handle`."""
        row = self._row(handle)
        return f"#{handle}" if row == NO_ROW else self.tags.names[row]

    def unit_of(self, handle: int) -> str:
        """The tag's engineering unit, or ""."""
        tag = self.find(handle)
        return tag.unit if tag is not None else ""

    def of_source(self, source: str) -> list[TagDef]:
        """The tags that this actor feeds."""
        names = self.tags.source_names
        return list(self.tags.where(self.tags.sources == names.index(source))) if source in names else []

    def of_shard(self, shard: int) -> TagRows:
        """The tags that this shard keeps."""
        return self.tags.where(self.tags.shards == shard)


def store(home: Home, table: DefinitionTable) -> None:
    """Publish: written beside, synced, renamed, so that a reader sees all of it or the one before."""
    path = _path(home)
    packed = msgspec.Raw(msgspec.msgpack.encode(table.tags.packed))
    body = msgspec.msgpack.encode(_File(FORMAT, table.revision, packed))
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(home: Home) -> DefinitionTable:
    """Read what `plant/0` last published.

    Raises:
        ConfigError: There is none, or it is not readable.
    """
    path = _path(home)
    try:
        # Mapped, not read: a shard that comes back looks at some columns, and all processes share the pages.
        with path.open("rb") as file:
            body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        read = msgspec.msgpack.decode(body, type=_File)
        if read.form != FORMAT:
            raise ValueError(f"format {read.form}, not {FORMAT}")
        return DefinitionTable(read.revision, TagRows(msgspec.msgpack.decode(read.packed, type=Packed)))
    except (OSError, msgspec.DecodeError, ValueError) as error:
        msg = f"no tag definitions: {error}"
        raise ConfigError(msg, file=str(path), expected="the file that plant/0 writes when it starts") from error


def _path(home: Home) -> Path:
    return home.actor_data("plant/0") / FILE
