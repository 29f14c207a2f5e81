"""Why a tag looks as it does, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.tags import TagExplained

if TYPE_CHECKING:
    from tagwerk.actors.cvt.actor import Cvt
    from tagwerk.protocols.tags import TagDef


def explain(shard: Cvt, handle: int) -> TagExplained:
    """Where the value comes from, how old it is, and what its quality means.

    Raises:
        Refused: The shard has no such tag.
    """
    row = shard.table.row(handle)
    if row is None:
        raise Refused("UnknownTag", f"{shard.name} has no tag with the handle {handle}")
    tag = shard.table.tags[row]
    code = int(shard.table.quality[row])
    owner = int(shard.table.owner[row])
    writer = shard.writers.by_index.get(owner)
    now_ns = shard.clock.now_ns()
    lines = [
        ("tag", tag.name),
        ("value", f"{shard.table.value(row)} {tag.unit}".strip()),
        ("quality", f"{q.name_of(code)} (0x{code:08X}): {_meaning(code)}"),
        ("kept by", f"{shard.name}, incarnation {shard.context.incarnation}"),
        ("source", tag.source or "none: whoever publishes it first, or a write to its shard"),
    ]
    if tag.node:
        lines.append(("node", tag.node))
    if writer is not None:
        state = "alive" if writer.alive else "lost"
        lines.append(("last writer", f"{writer.name} ({state}, batch {writer.counter.last})"))
    if shard.table.times[row]:
        lines.append(("source time", f"{(now_ns - int(shard.table.times[row])) / 1e9:.3f} s ago"))
        lines.append(("received", f"{(shard.steady.now_ns() - int(shard.table.received[row])) / 1e9:.3f} s ago"))
    lines.append(("history", _history(tag)))
    return TagExplained(tuple(lines))


def _history(tag: TagDef) -> str:
    if not tag.is_thinned:
        return "logged" if tag.log else "not logged"
    words: list[str] = []
    if tag.log_deadband is not None:
        words.append(f"a change of less than {tag.log_deadband:g} {tag.unit}".rstrip())
    if tag.log_compression_dev is not None:
        words.append(f"what lies within {tag.log_compression_dev:g} {tag.unit}".rstrip() + " of a line")
    often = "" if tag.log_max_interval_s is None else f"; one each {tag.log_max_interval_s:g} s is kept"
    return f"logged without {' and '.join(words)}{often}"


def _meaning(code: int) -> str:
    meanings = {
        q.GOOD: "measured, and the source is there",
        q.BAD_WAITING_FOR_INITIAL_DATA: "no value has ever come",
        q.BAD_NO_COMMUNICATION: "the source was lost; the value is the last one before",
        q.UNCERTAIN_NO_COMMUNICATION: "the source said goodbye; the value is its last one",
        q.UNCERTAIN_LAST_USABLE: "no sample for longer than stale_after_s",
        q.UNCERTAIN_INITIAL: "the default of the plant file; nothing was written yet",
        q.UNCERTAIN: "its time cannot be right, or the source doubts it",
        q.BAD_NODE_ID_UNKNOWN: "the OPC UA server does not know the node",
        q.BAD: "the source gave no number",
    }
    known = meanings.get(code & q.CODE_MASK)
    if known is not None:
        return known
    return "as the source says" if q.is_good(code) else "the source says so"
