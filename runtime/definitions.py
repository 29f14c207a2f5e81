"""The tag definitions as `plant/0` last published them: one file that a restarted actor reads without asking anyone."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from tagwerk.protocols.codec import pack
from tagwerk.protocols.errors import ConfigError, Refused
from tagwerk.protocols.tags import TagDef

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from tagwerk.runtime.home import Home

FILE: Final = "definitions.msgpack"
FORMAT: Final = 1
NO_SHARD: Final = 0xFFFF


class DefinitionTable:
    """All tag definitions at one revision.

    Args:
        revision: Grows with each change.
        tags: In the order of their handles.
    """

    def __init__(self, revision: int, tags: Iterable[TagDef]) -> None:
        self.revision = revision
        self.tags = tuple(tags)
        handles = np.array([tag.handle for tag in self.tags], np.uint32)
        self._shards: NDArray[np.uint16] = np.full(int(handles.max(initial=0)) + 1, NO_SHARD, np.uint16)
        self._shards[handles] = [tag.shard for tag in self.tags]

    @cached_property
    def by_handle(self) -> dict[int, TagDef]:
        """The tags by their handles."""
        return {tag.handle: tag for tag in self.tags}

    @cached_property
    def by_name(self) -> dict[str, TagDef]:
        """The tags by their names; made when somebody asks, because a shard that comes back has no time for it."""
        return {tag.name: tag for tag in self.tags}

    def shard_of(self, handles: NDArray[np.uint32]) -> NDArray[np.integer[Any]]:
        """The shard of each handle.

        Args:
            handles: uint32 (n,).

        Returns:
            uint16 (n,).

        Raises:
            Refused: A handle is not known (UnknownTag).
        """
        if len(handles) and int(handles.max()) >= len(self._shards):
            raise Refused("UnknownTag", f"no tag has the handle {int(handles.max())}")
        shards = self._shards[handles]
        if (shards == NO_SHARD).any():
            raise Refused("UnknownTag", f"no tag has the handle {int(handles[shards == NO_SHARD][0])}")
        return shards

    def name_of(self, handle: int) -> str:
        """The tag's name; a handle that this table does not know is `#handle`."""
        tag = self.by_handle.get(handle)
        return tag.name if tag is not None else f"#{handle}"

    def unit_of(self, handle: int) -> str:
        """The tag's engineering unit, or ""."""
        tag = self.by_handle.get(handle)
        return tag.unit if tag is not None else ""

    def of_source(self, source: str) -> list[TagDef]:
        """The tags that this actor feeds."""
        return [tag for tag in self.tags if tag.source == source]

    def of_shard(self, shard: int) -> list[TagDef]:
        """The tags that this shard keeps."""
        return [tag for tag in self.tags if tag.shard == shard]


def store(home: Home, table: DefinitionTable) -> None:
    """Publish: written beside, synced, renamed, so that a reader sees all of it or the one before."""
    path = _path(home)
    body = pack([FORMAT, table.revision, msgspec.to_builtins(table.tags)])
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
        # In one step, without the lists between: a restarted shard waits for it.
        form, revision, tags = msgspec.msgpack.decode(path.read_bytes(), type=tuple[int, int, tuple[TagDef, ...]])
        if form != FORMAT:
            raise ValueError(f"not a definitions file of format {FORMAT}")
        return DefinitionTable(revision, tags)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        msg = f"no tag definitions: {error}"
        raise ConfigError(msg, file=str(path), expected="the file that plant/0 writes when it starts") from error


def _path(home: Home) -> Path:
    return home.actor_data("plant/0") / FILE
