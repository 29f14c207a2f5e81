"""Takes the batches of a writer's frame: into the table, onto the feed, and as records into the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tagwerk.actors.cvt.logic.familiar import Familiar
from tagwerk.actors.cvt.logic.table import Applied
from tagwerk.protocols.plantwide import Event
from tagwerk.runtime.durable import SAMPLES

SAME_NS: Final = 10_000_000_000
"""A step that comes so soon after one of nearly its size is the same."""

if TYPE_CHECKING:
    from tagwerk.actors.cvt.actor import Cvt
    from tagwerk.actors.cvt.logic.writers import Writer
    from tagwerk.protocols.samples import Samples


class Taker:
    """Applies frames that were checked. See `Take`.

    Args:
        shard: Whose table, feed and journal it is.
    """

    def __init__(self, shard: Cvt) -> None:
        self._shard = shard
        self._familiar = Familiar(shard.table)

    def __call__(
        self, writer: Writer, number: int, batches: list[Samples], frame: bytes, backfill: bool
    ) -> list[tuple[int, int, str]]:
        """Take one frame; nothing of it is shown or recorded before all of it could be applied."""
        shard = self._shard
        now_ns, wall_ns = shard.steady.now_ns(), shard.clock.now_ns()
        results = [self._apply(writer, batch, now_ns, wall_ns, backfill=backfill) for batch in batches]
        as_it_came = all(done.untouched for done in results)
        for done in results:
            for batch, rows in zip(done.current, done.rows, strict=True):
                shard.feed.add(batch, rows, now_ns, frame if as_it_came and len(batches) == 1 else None)
        if as_it_came:
            shard.recorder.append(SAMPLES, writer.name, number, frame, sum(map(len, batches)), now_ns)
        else:
            late = [batch for done in results for batch in done.history_only]
            current = [batch for done in results for batch in done.current]
            shard.recorder.frame(writer.name, number, late, current)
        return _refused(batches, results)

    def _apply(self, writer: Writer, batch: Samples, now_ns: int, wall_ns: int, *, backfill: bool) -> Applied:
        shard, table = self._shard, self._shard.table
        if backfill:
            return table.backfill(batch, writer.index, shard.losses.dead())
        if not writer.clock_wrong:
            rows = self._familiar.apply(batch, writer.index, writer.birth, now_ns, wall_ns)
            if rows is not None:
                return Applied([batch], [rows])
        done = table.apply(
            batch, writer.index, writer.birth, now_ns, shard.losses.dead(), clock_known_wrong=writer.clock_wrong,
            wall_ns=wall_ns,
        )  # fmt: skip
        self._note_clock(writer, done)
        self._familiar.learn(batch, writer.index, writer.birth, done)
        return done

    def _note_clock(self, writer: Writer, done: Applied) -> None:
        if done.clock_step is None:
            writer.clock_wrong = writer.clock_wrong and not done.current
            return
        shard = self._shard
        handle, step_ns = done.clock_step
        mono_ns, told = shard.clock.mono_ns(), writer.clock_told
        # A step comes in several batches, right ones between them: one event tells it.
        same = told is not None and mono_ns - told[0] < SAME_NS and abs(step_ns - told[1]) < SAME_NS
        if not writer.clock_wrong and not same:
            writer.clock_told = (mono_ns, step_ns)
            name = shard.definitions.name_of(handle)
            why = f"the time of {name} steps by {step_ns / 1e9:+.1f} s"
            shard.audit(Event(shard.clock.now_ns(), "", "", "clock", writer.name, "", "", why))
        # A clock that is ahead stays ahead: told once. One that went back is right again at once.
        writer.clock_wrong = done.clock_step[1] >= 0


def _refused(batches: list[Samples], results: list[Applied]) -> list[tuple[int, int, str]]:
    """What was refused of each batch, with its row in the frame."""
    refused: list[tuple[int, int, str]] = []
    offset = 0
    for batch, done in zip(batches, results, strict=True):
        refused.extend((offset + row, handle, code) for row, handle, code in done.refused)
        offset += len(batch)
    return refused
