"""Handles and shards, pure: a tag gets its handle once and keeps it for life, and its shard with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What tags keep for life.

    Args:
        handles: uint32 (n,).
        shards: uint16 (n,).
        changed: The rows of those that are new or moved, intp (m,).
    """

    handles: NDArray[np.uint32]
    shards: NDArray[np.uint16]
    changed: NDArray[np.intp]


def shard_for(name: str, shards: int) -> int:
    """The shard of a new tag: blake2b of its name, the same on every host and in every run."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def place_tags(rows: Mapping[str, int], known: Iterable[tuple[str, int, int]], next_handle: int, shards: int) -> Places:
    """Places for these tags.

    Args:
        rows: All tags that there are now: names with their rows, in the order of these.
        known: Name, handle and shard of the tags that have a place, also of those that are gone: a handle is never
            used again.
        next_handle: Higher than all that were ever given.
        shards: How many shards there are now; a known tag does not move while its shard exists.
    """
    handles = np.zeros(len(rows), np.uint32)
    homes = np.zeros(len(rows), np.uint16)
    changed = np.ones(len(rows), np.bool_)
    for name, handle, shard in known:
        row = rows.get(name)
        if row is not None:
            handles[row] = handle
            homes[row] = shard
            changed[row] = shard >= shards  # its shard is no more
    if changed.any():
        new = handles == 0
        handles[new] = np.arange(next_handle, next_handle + np.count_nonzero(new))
        homes[changed] = [
            shard_for(name, shards) for name, is_new in zip(rows, changed.tolist(), strict=True) if is_new
        ]
    return Places(handles, homes, np.flatnonzero(changed))
