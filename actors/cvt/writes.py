"""Writes: judged here, handed to the tag's owner, done at most once, with one of four outcomes."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tagwerk.protocols.errors import NotSent, Refused, RefusedCode
from tagwerk.protocols.message import Message, Refusal
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.quality import GOOD
from tagwerk.protocols.samples import MAX_TEXT_BYTES, ValueType, make, text_fits
from tagwerk.protocols.tags import SetOutput, TagWritten, WriteNotSent, WriteTag, WriteUnknown
from tagwerk.runtime.actor import Later, Outcome, Sender

if TYPE_CHECKING:
    from tagwerk.actors.cvt.actor import Cvt
    from tagwerk.protocols.tags import TagDef

DEFAULT_TIMEOUT_S = 5.0


class WriteDesk:
    """Carries a shard's writes.

    Args:
        shard: Whose table it is.
    """

    def __init__(self, shard: Cvt) -> None:
        self._shard = shard
        self._owed: list[tuple[Later, TagWritten]] = []

    def write(self, message: WriteTag, sender: Sender) -> Message | Later:
        """Judge a write and hand it on.

        Raises:
            Refused: It cannot be done; nothing was changed.
        """
        shard = self._shard
        row = shard.table.row(message.handle)
        if row is None:
            raise Refused(RefusedCode.UNKNOWN_TAG, f"{shard.name} has no tag with the handle {message.handle}")
        tag = shard.table.tags[row]
        value = judge_write(tag, message.value)
        before = str(shard.table.value(row))
        if not tag.source:
            return self._own(message, tag, row, value, before)
        if tag.source.startswith(("writer/", "machine/")):
            raise Refused(RefusedCode.READ_ONLY, f"{tag.name} is measured by {tag.source}", tag.name)
        later = Later()
        timeout_s = DEFAULT_TIMEOUT_S
        if sender.deadline_ns:
            timeout_s = (sender.deadline_ns - shard.clock.mono_ns()) / 1e9
        order = SetOutput(message.handle, value, message.by or sender.name, message.lease)
        shard.ask(tag.source, order, partial(self._outcome, message, tag, before, later), timeout_s)
        return later

    def _own(self, message: WriteTag, tag: TagDef, row: int, value: Any, before: str) -> Later:
        shard = self._shard
        owner = int(shard.table.owner[row])
        writer = shard.writers.by_index.get(owner)
        if writer is not None and writer.alive:
            raise Refused(RefusedCode.NOT_OWNER, f"{tag.name} is fed by the writer {writer.name!r}", tag.name)
        kind = ValueType(int(shard.table.types[row]))
        now_ns = shard.clock.now_ns()
        shard.own([make(kind, [tag.handle], [value], now_ns)])
        self._log(message, tag, before, str(value))
        later = Later()
        self._owed.append((later, TagWritten(tag.handle, value, GOOD, now_ns)))
        return later

    def flush(self, *, journaled: bool) -> None:
        """After the commit: what was written here is answered, with whether it is in the journal."""
        owed, self._owed = self._owed, []
        for later, written in owed:
            later.reply(written if journaled else replace(written, not_journaled=True))

    def _outcome(self, message: WriteTag, tag: TagDef, before: str, later: Later, outcome: Outcome) -> None:
        if isinstance(outcome, TagWritten):
            self._log(message, tag, before, str(outcome.value))
            # Its owner published it by now, or will: into a journal that takes nothing.
            later.reply(outcome if self._shard.recorder.journaled else replace(outcome, not_journaled=True))
        elif isinstance(outcome, Refused):
            later.reply(Refusal(outcome.code, outcome.message, outcome.tag or tag.name))
        elif isinstance(outcome, (WriteNotSent, WriteUnknown)):
            self._failed(message, tag, before, later, outcome)
        elif isinstance(outcome, NotSent):
            self._failed(message, tag, before, later, WriteNotSent(str(outcome)))
        else:
            why = f"handed to {tag.source}, which did not say what became of it: {outcome}"
            self._failed(message, tag, before, later, WriteUnknown(why))

    def _failed(
        self, message: WriteTag, tag: TagDef, before: str, later: Later, outcome: WriteNotSent | WriteUnknown
    ) -> None:
        word = "not done" if isinstance(outcome, WriteNotSent) else "unknown"
        self._log(message, tag, before, f"{message.value} ({word})")
        later.reply(outcome)

    def _log(self, message: WriteTag, tag: TagDef, before: str, after: str) -> None:
        if message.lease:
            return  # cyclic writes of a machine are in the history of the tag, not in the log of who did what
        now_ns = self._shard.clock.now_ns()
        event = Event(now_ns, message.by, message.host, "write", tag.name, before, after, message.reason)
        self._shard.audit(event)


def judge_write(tag: TagDef, value: float | int | bool | str) -> float | int | bool | str:
    """The value as it is to be written, in the tag's type.

    Raises:
        Refused: ReadOnly, WrongType, BadValue or OutOfRange, naming the tag and what would be right.
    """
    if not tag.writable:
        raise Refused(RefusedCode.READ_ONLY, f"{tag.name} is not writable", tag.name)
    typed = _typed(tag, value)
    if isinstance(typed, float) and not math.isfinite(typed):
        raise Refused(RefusedCode.BAD_VALUE, f"{tag.name}: {typed} is not a number to write", tag.name)
    low = tag.write_low if tag.write_low is not None else tag.low
    high = tag.write_high if tag.write_high is not None else tag.high
    if isinstance(typed, (int, float)) and not isinstance(typed, bool):
        outside = (low is not None and typed < low) or (high is not None and typed > high)
        if outside:
            unit = f" {tag.unit}" if tag.unit else ""
            text = f"{tag.name}: {typed:g}{unit} is outside {_edge(low)} to {_edge(high)}{unit}"
            raise Refused(RefusedCode.OUT_OF_RANGE, text, tag.name)
    return typed


def _edge(limit: float | None) -> str:
    return "any" if limit is None else f"{limit:g}"


def _typed(tag: TagDef, value: float | int | bool | str) -> float | int | bool | str:
    fits = {
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
    }[tag.type]
    if tag.type == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    elif not fits:
        raise Refused(
            RefusedCode.WRONG_TYPE, f"{tag.name} is {tag.type}, not {type(value).__name__} ({value!r})", tag.name
        )
    if tag.type == "int" and not -(1 << 63) <= int(value) < 1 << 63:
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{tag.name}: {value} does not fit into 64 bits", tag.name)
    if isinstance(value, str) and not text_fits(value):
        raise Refused(RefusedCode.OUT_OF_RANGE, f"{tag.name}: a text has at most {MAX_TEXT_BYTES} bytes", tag.name)
    return float(value) if tag.type == "float" else value
