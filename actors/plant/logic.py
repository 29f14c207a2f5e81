"""Handles and shards, pure: a tag gets its handle once and keeps it for life, and its shard with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Place:
    """What a tag keeps for life."""

    handle: int
    shard: int


def shard_for(name: str, shards: int) -> int:
    """The shard of a new tag: blake2b of its name, the same on every host and in every run."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def place_tags(
    names: Iterable[str], known: Mapping[str, Place], next_handle: int, shards: int
) -> tuple[dict[str, Place], dict[str, Place]]:
    """Places for these names.

    Args:
        names: All tags that there are now.
        known: Tags that have a place, also those that are gone: a handle is never used again.
        next_handle: Higher than all that were ever given.
        shards: How many shards there are now; a known tag does not move while its shard exists.

    Returns:
        (all places by name, the new or moved ones among them).
    """
    places: dict[str, Place] = {}
    new: dict[str, Place] = {}
    for name in names:
        place = known.get(name)
        if place is None:
            place = new[name] = Place(next_handle, shard_for(name, shards))
            next_handle += 1
        elif place.shard >= shards:  # its shard is no more
            place = new[name] = Place(place.handle, shard_for(name, shards))
        places[name] = place
    return places, new
