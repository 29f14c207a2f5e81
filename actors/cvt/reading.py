"""What a shard answers to those who ask for values, snapshots and its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tagwerk.protocols.errors import Refused
from tagwerk.protocols.samples import encode, split
from tagwerk.protocols.tags import JournalPage, PositionMark, ReadJournal, ReadTags, TagState, TagStates, ViewSnapshot
from tagwerk.runtime.journal import Position

if TYPE_CHECKING:
    from tagwerk.actors.cvt.actor import Cvt

READ_LIMIT: Final = 100_000
PAGE_LIMIT_BYTES: Final = 8 << 20
CONSUMERS_LIMIT: Final = 32


def read_tags(shard: Cvt, message: ReadTags) -> TagStates:
    """The current values of some tags.

    Raises:
        Refused: Too many, or one of them is not the shard's.
    """
    if len(message.handles) > READ_LIMIT:
        raise Refused("NotPermitted", f"{len(message.handles)} tags in one read, at most {READ_LIMIT}")
    table = shard.table
    states: list[TagState] = []
    for handle in message.handles:
        row = table.row(handle)
        if row is None:
            raise Refused("UnknownTag", f"{shard.name} has no tag with the handle {handle}")
        writer = shard.writers.by_index.get(int(table.owner[row]))
        states.append(
            TagState(
                handle, table.value(row), int(table.quality[row]), int(table.times[row]), int(table.received[row]),
                "" if writer is None else writer.name,
            )
        )  # fmt: skip
    return TagStates(tuple(states), not shard.recorder.journaled)


def view_snapshot(shard: Cvt, topic: bytes) -> ViewSnapshot:
    """The state of a view's tags, and the position on the feed that it is of.

    Raises:
        Refused: Nobody keeps the view.
    """
    view = shard.feed.view(topic)
    if view is None:
        raise Refused("NotActive", "there is no such view, or its lease is over: open it again")
    frames = tuple(encode(group) for group in split(shard.table.state(view.rows)))
    return ViewSnapshot(topic, shard.context.incarnation, shard.feed.give_position(), shard.clock.now_ns(), frames)


def journal_page(shard: Cvt, message: ReadJournal) -> JournalPage:
    """Records for a durable consumer, which is registered by its first question.

    Raises:
        Refused: The disk does not take the registration, so nothing could be kept for it over a restart; or there are
            too many consumers, each of which holds the journal.
    """
    known = shard.journal.consumers()
    if message.consumer not in known and len(known) >= CONSUMERS_LIMIT:
        raise Refused("NotPermitted", f"{shard.name} keeps its journal for {CONSUMERS_LIMIT} consumers already")
    try:
        shard.journal.register(message.consumer)
    except OSError as error:
        why = f"the journal cannot note its consumer {message.consumer}: {error.strerror}"
        raise Refused("NotActive", why) from error
    if message.taken is not None:
        shard.journal.consumed(message.consumer, position_of(message.taken))
    if message.skip:
        shard.feed.arm_bell()
        return JournalPage(_mark_of(shard.journal.position), (), True, shard.recorder.promise())
    after = None if message.after is None else position_of(message.after)
    page = shard.journal.read(after, limit_bytes=max(1, min(message.limit_bytes, PAGE_LIMIT_BYTES)))
    if page.at_end:
        shard.feed.arm_bell()
    hole = None if page.hole is None else (page.hole.start.n, page.hole.end.n)
    return JournalPage(_mark_of(page.position), tuple(page.records), page.at_end, shard.recorder.promise(), hole)


def _mark_of(position: Position) -> PositionMark:
    return PositionMark(position.journal, position.incarnation, position.n)


def position_of(mark: PositionMark) -> Position:
    """A place in a journal, as the journal has it."""
    return Position(mark.journal, mark.incarnation, mark.n)
