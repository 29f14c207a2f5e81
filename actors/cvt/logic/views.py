"""Views: which tags somebody looks at, and which part of what changed they get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from tagwerk.protocols.samples import BUDGET_BYTES, Samples, encode, join

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

VIEWS_LIMIT: Final = 10_000
LARGE_BYTES: Final = BUDGET_BYTES // 4


@dataclass(slots=True)
class View:
    """A set of tags that somebody looks at.

    Args:
        topic: blake2b-64 of its globs.
        globs: Sorted.
        mask: bool (table rows,): what is in it.
        lease_until_ns: Monotonic.
    """

    topic: bytes
    globs: tuple[str, ...]
    mask: NDArray[np.bool_]
    lease_until_ns: int
    sent: int = 0
    """The position up to which its topic has been told."""
    rows: NDArray[np.intp] = field(init=False)
    everything: bool = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.flatnonzero(self.mask)
        self.everything = len(self.mask) > 0 and bool(self.mask.all())


class Change(msgspec.Struct, frozen=True):
    """One batch that became current.

    Args:
        batch: The samples.
        rows: Their table rows, int (n,).
        position: Where it stands in the shard's order.
        received_ns: When the shard took it, UTC, ns.
        opens_frame: It does not share a frame with what was before it: somebody was given the state in between.
    """

    batch: Samples
    rows: NDArray[np.intp]
    position: int
    received_ns: int
    opens_frame: bool = False
    frame: bytes | None = None
    """The samples frame that is just this batch, if there is one."""


def frames_for(view: View, changes: Sequence[Change]) -> Iterator[tuple[bytes, int, int]]:
    """What a view gets: (samples frame, position after it, received_ns).

    Neighbours are joined, if there is room for some in a frame. A batch that is large, or alone, goes on in the frame
    that it came in.
    """
    if len(changes) == 1 and view.everything:
        change = changes[0]
        if change.position > view.sent:
            yield change.frame or encode([change.batch]), change.position, change.received_ns
        return
    group: list[Samples] = []
    used = 0
    upto = received_ns = 0
    for change in changes:
        if change.position <= view.sent:
            continue  # it was made before the view was
        if change.opens_frame and group:
            yield encode(join(group)), upto, received_ns
            group, used = [], 0
        if view.everything:
            part = change.batch
        else:
            inside = view.mask[change.rows]
            if not inside.any():
                continue
            part = change.batch if inside.all() else change.batch.select(inside)
        size = part.size
        as_it_came = change.frame if part is change.batch and size >= LARGE_BYTES else None
        if group and (used + size > BUDGET_BYTES or as_it_came is not None):
            yield encode(join(group)), upto, received_ns
            group, used = [], 0
        if as_it_came is not None:
            yield as_it_came, change.position, change.received_ns
            continue
        group.append(part)
        used += size
        upto, received_ns = change.position, change.received_ns
    if group:
        yield encode(join(group)), upto, received_ns


def pieces(batch: Samples, rows: NDArray[np.intp]) -> Iterator[tuple[Samples, NDArray[np.intp]]]:
    """A batch in parts that each fit into a frame, with their table rows."""
    if batch.size <= BUDGET_BYTES or len(batch) == 1:
        yield batch, rows
        return
    middle = len(batch) // 2
    for part in (np.arange(middle), np.arange(middle, len(batch))):
        yield from pieces(batch.select(part), rows[part])
