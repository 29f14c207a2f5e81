"""What is said about history."""

from __future__ import annotations

from tagwerk.protocols.message import Message


class GetHistory(Message, frozen=True):
    """To `historian/0`: samples of one tag with `start_ns <= time < end_ns`, oldest first. Answered by `HistoryPage`.

    `limit` 0 means as many as fit into a page. To go on, ask again with `after` = the page's `next_after`.
    `bounds`: also the last sample before `start_ns` and the first at or after `end_ns`. `newest`: the last `limit`
    samples of the span instead of the first. All that was acknowledged when the question came is in the answer,
    unless that says `behind`.
    """

    handle: int
    start_ns: int
    end_ns: int
    limit: int = 0
    after: int = 0
    bounds: bool = False
    newest: bool = False


class HistoryPage(Message, frozen=True):
    """Samples frames, oldest first; `next_after` is None at the end.

    A run of samples in which only the quality changed is a quality-only batch: a gap, no value was measured.
    `behind`: the historian could not reach the shard, or has not caught up with it: newest samples may be missing.
    """

    frames: tuple[bytes, ...]
    next_after: int | None
    behind: bool = False


class GetHistorianState(Message, frozen=True):
    """To `historian/0`: what it holds, as (what, detail) lines. Answered by `HistorianState`."""


class HistorianState(Message, frozen=True):
    """`rows` stored and the number `n` of each shard's journal up to which it has committed."""

    rows: int
    positions: tuple[tuple[str, int], ...]
