"""The table: one row a tag, in columns. Decides which sample is current. No loop over samples."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import RefusedCode
from tagwerk.protocols.samples import Samples, Value, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tagwerk.protocols.tag_rows import TagRows

LATE_WINDOW_NS: Final = 10_000_000_000
AHEAD_NS: Final = 10_000_000_000
NOBODY: Final = 0
ANYONE: Final = -1
NO_BIRTH: Final = -1

Rows = "NDArray[np.int64]"


class Applied(msgspec.Struct):
    """What became of one batch.

    Args:
        current: What is current now, in order.
        rows: The table rows of `current`, one array a batch.
        history_only: What is late: to be recorded, not shown.
        refused: (row in the batch, handle, code) of what was not taken.
        clock_step: (handle, step in ns) of the first sample whose time cannot be right, if any.
    """

    current: list[Samples] = []
    rows: list[NDArray[np.intp]] = []
    history_only: list[Samples] = []
    refused: list[tuple[int, int, str]] = []
    clock_step: tuple[int, int] | None = None
    untouched: bool = True
    """True if every sample is current just as it came."""


class Table:
    """The rows of one shard.

    Args:
        tags: The definitions of the shard's tags.
    """

    def __init__(self, tags: TagRows) -> None:
        self.tags = tags
        count = len(tags)
        self.handles = tags.handles
        self._row_of = np.full(int(self.handles.max()) + 2 if count else 1, -1, np.int32)
        self._row_of[self.handles] = np.arange(count)
        self.types = tags.types
        self.floats = np.full(count, np.nan, "<f8")
        self.ints = np.zeros(count, "<i8")
        self.strings: list[str] = [""] * count
        self.has_value = np.zeros(count, np.bool_)
        self.times = np.zeros(count, "<i8")
        self.received = np.zeros(count, "<i8")
        self.heard = np.zeros(count, "<i8")  # as `received`, but also what a deadband swallowed counts
        self.quality = np.full(count, q.BAD_WAITING_FOR_INITIAL_DATA, "<u4")
        self.owner = np.zeros(count, np.int32)
        self.born = np.zeros(count, np.int64)
        self.required = np.full(count, ANYONE, np.int32)
        self.owners = 0
        """Rises whenever a row gets another owner or session."""
        self.bands = tags.bands
        """Deadbands, float64 (rows,)."""
        self._any_band = bool((self.bands > 0).any())

    def __len__(self) -> int:
        return len(self.tags)

    def rows(self, handles: NDArray[np.uint32]) -> NDArray[np.intp]:
        """Table rows of handles, -1 for those that are not ours.

        Args:
            handles: uint32 (n,).
        """
        inside = np.minimum(handles, len(self._row_of) - 1)
        return self._row_of[inside].astype(np.intp)

    def row(self, handle: int) -> int | None:
        """The table row of one handle, or None."""
        row = int(self._row_of[handle]) if 0 <= handle < len(self._row_of) else -1
        return row if row >= 0 else None

    def value(self, row: int) -> Value:
        """The last value of a row, None if there never was one."""
        if not self.has_value[row]:
            return None
        kind = self.types[row]
        if kind == ValueType.FLOAT:
            return float(self.floats[row])
        if kind == ValueType.STR:
            return self.strings[row]
        return bool(self.ints[row]) if kind == ValueType.BOOL else int(self.ints[row])

    # --- taking samples ----------------------------------------------------------------------------------------------

    def apply(
        self,
        batch: Samples,
        writer: int,
        session: int,
        received_ns: int,
        dead: NDArray[np.bool_],
        *,
        clock_known_wrong: bool = False,
        wall_ns: int | None = None,
    ) -> Applied:
        """Take a batch that a writer published.

        Args:
            batch: As it came, columns of one length.
            writer: Number of the writer, > 0; 0 is the shard itself.
            session: Number of the writer's session; grows with each birth.
            received_ns: The shard's clock.
            dead: bool (writers,): who lost or gave up its tags.
            clock_known_wrong: This writer's clock was ahead already: no further mark.
            wall_ns: The host's wall clock, if it is not the shard's. It was set then, and a writer that shows the same
                is not wrong.
        """
        done = Applied()
        rows = self.rows(batch.tags)
        keep = self._permitted(batch, rows, writer, dead, done)
        if keep is not None:
            done.untouched = False
            batch, rows = batch.select(keep), rows[keep]
        # Times are judged for the batch as a whole, against the table before it: inside a batch the order rules.
        clocks = (received_ns, received_ns if wall_ns is None else wall_ns)
        batch, rows = self._judge_times(batch, rows, writer, session, clocks, done, clock_known_wrong)
        if len(batch):
            for piece, piece_rows in self._usable(batch, rows, received_ns, done):
                self.put(piece, piece_rows, writer, session, received_ns)
                done.current.append(piece)
                done.rows.append(piece_rows)
        return done

    def backfill(self, batch: Samples, writer: int, dead: NDArray[np.bool_]) -> Applied:
        """Take a batch that is for history only: nothing becomes current. It is marked in the quality of its samples.

        Args:
            batch: As it came, columns of one length.
            writer: Number of the writer, > 0.
            dead: bool (writers,): who lost or gave up its tags.
        """
        done = Applied(untouched=False)
        keep = self._permitted(batch, self.rows(batch.tags), writer, dead, done)
        kept = batch if keep is None else batch.select(keep)
        if len(kept):
            done.history_only.extend(
                replace(piece, quality=piece.quality | np.uint32(q.BACKFILLED)) for piece, _ in _without_nan(kept)
            )
        return done

    def _permitted(
        self, batch: Samples, rows: NDArray[np.intp], writer: int, dead: NDArray[np.bool_], done: Applied
    ) -> NDArray[np.bool_] | None:
        """Which rows may be taken; None if all. Those that may not are put into `done.refused`."""
        known = rows >= 0
        safe = np.maximum(rows, 0)
        if len(self) == 0:
            typed = owned = known
        else:
            typed = np.full(len(rows), True) if batch.kind is ValueType.QUALITY else self.types[safe] == batch.kind
            owned = self._owned(safe, writer, dead)
        keep = known & typed & owned
        if keep.all():
            return None
        for number in np.flatnonzero(~keep).tolist():
            code = RefusedCode.NOT_OWNER
            if not known[number]:
                code = RefusedCode.UNKNOWN_TAG
            elif not typed[number]:
                code = RefusedCode.WRONG_TYPE
            done.refused.append((number, int(batch.tags[number]), code.value))
        return keep

    def _owned(self, rows: NDArray[np.intp], writer: int, dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
        required = self.required[rows]
        holder = self.owner[rows]
        free = (holder == writer) | (holder == NOBODY) | dead[holder]
        owned: NDArray[np.bool_] = (required == writer) | ((required == ANYONE) & free)
        return owned

    def _usable(
        self, batch: Samples, rows: NDArray[np.intp], received_ns: int, done: Applied
    ) -> Iterable[tuple[Samples, NDArray[np.intp]]]:
        """The batch, with NaN turned to Bad without a value, and without what a deadband swallows."""
        if batch.kind is ValueType.FLOAT and np.isnan(batch.values).any():
            done.untouched = False
            for piece, run in _without_nan(batch):
                yield from self._outside_band(piece, rows[run], received_ns, done)
        else:
            yield from self._outside_band(batch, rows, received_ns, done)

    def _outside_band(
        self, batch: Samples, rows: NDArray[np.intp], received_ns: int, done: Applied
    ) -> Iterable[tuple[Samples, NDArray[np.intp]]]:
        numeric = batch.kind in (ValueType.FLOAT, ValueType.INT)
        if not (self._any_band and numeric and (banded := self.bands[rows] > 0).any()):
            yield batch, rows
            return
        if len(np.unique(rows)) == len(rows):
            picked = self._leaving_band(batch, rows, np.arange(len(rows)), received_ns)
            if len(picked) == len(rows):
                yield batch, rows
                return
            waves = iter([picked])
        else:
            # One wave for each repetition of a tag: a sample is compared with the one before it, also inside a batch.
            compared = np.flatnonzero(banded)
            turns = _waves(rows[compared])
            waves = chain(
                [np.flatnonzero(~banded)],
                (self._leaving_band(batch, rows, compared[turn], received_ns) for turn in turns),
            )
        done.untouched = False
        for picked in waves:
            if len(picked):
                yield batch.select(picked), rows[picked]

    def _leaving_band(
        self, batch: Samples, rows: NDArray[np.intp], wave: NDArray[np.intp], received_ns: int
    ) -> NDArray[np.intp]:
        """Those of a wave's samples that no deadband swallows; the others count as heard."""
        at = rows[wave]
        last = self.floats[at] if batch.kind is ValueType.FLOAT else self.ints[at]
        with np.errstate(invalid="ignore"):  # inf - inf; as floats, because a difference of two int64 may wrap
            inside = np.abs(np.subtract(batch.values[wave], last, dtype="<f8")) < self.bands[at]
        swallowed = inside & self.has_value[at] & (self.quality[at] == batch.quality[wave])
        self.heard[at[swallowed]] = received_ns
        picked: NDArray[np.intp] = wave[~swallowed]
        return picked

    def _judge_times(
        self,
        batch: Samples,
        rows: NDArray[np.intp],
        writer: int,
        session: int,
        clocks: tuple[int, int],
        done: Applied,
        clock_known_wrong: bool,
    ) -> tuple[Samples, NDArray[np.intp]]:
        """What is current of a batch: late samples go to history only, the first ones of a wrong clock are marked."""
        in_session = (self.born[rows] == session) & (self.owner[rows] == writer) & (self.times[rows] > 0)
        age = self.times[rows] - batch.times
        late = in_session & (age > 0) & (age < LATE_WINDOW_NS)
        if late.any():  # a sample without a value never is: what turned bad must not go on looking good
            late &= _has_value(batch)
        received_ns, wall_ns = clocks
        back = in_session & (age >= LATE_WINDOW_NS)
        if abs(wall_ns - received_ns) > AHEAD_NS:
            back &= np.abs(batch.times - wall_ns) > AHEAD_NS
        wrong = back | (batch.times - max(clocks) > AHEAD_NS)
        if late.any():
            done.untouched = False
            if late.all():
                wrong = late  # all of them: the clock went back
            else:
                done.history_only.append(batch.select(late))
                keep = ~late
                batch, rows, wrong = batch.select(keep), rows[keep], wrong[keep]
        if wrong.any() and not clock_known_wrong:
            batch = self._mark(batch, wrong, received_ns, rows, done)
        elif wrong.any():
            done.clock_step = (int(batch.tags[wrong][0]), 0)
        return batch, rows

    def _mark(
        self,
        batch: Samples,
        wrong: NDArray[np.bool_],
        received_ns: int,
        rows: NDArray[np.intp],
        done: Applied,
    ) -> Samples:
        """The first sample of each tag with an impossible time is Uncertain."""
        first = np.zeros(len(batch), np.bool_)
        suspects = np.flatnonzero(wrong)
        first[suspects[np.unique(rows[suspects], return_index=True)[1]]] = True
        codes = np.where(first & q.good_mask(batch.quality), np.uint32(q.UNCERTAIN), batch.quality).astype("<u4")
        number = int(suspects[0])
        last_ns = int(self.times[rows[number]])
        step = int(batch.times[number]) - (last_ns if last_ns > int(batch.times[number]) else received_ns)
        done.clock_step = (int(batch.tags[number]), step)
        done.untouched = False
        return replace(batch, quality=codes)

    def put(self, batch: Samples, rows: NDArray[np.intp], writer: int, session: int, received_ns: int) -> None:
        """Make a batch current. A tag that stands twice in it: the last position wins (numpy's own rule)."""
        if batch.kind is ValueType.FLOAT:
            self.floats[rows] = batch.values
        elif batch.kind is ValueType.STR:
            for row, text in zip(rows.tolist(), batch.values, strict=True):
                self.strings[row] = text
        elif batch.kind is not ValueType.QUALITY:
            self.ints[rows] = batch.values
        if batch.kind is not ValueType.QUALITY:
            self.has_value[rows] = True
        self.times[rows] = batch.times
        self.quality[rows] = batch.quality
        self.received[rows] = received_ns
        self.heard[rows] = received_ns
        if (self.owner[rows] != writer).any() or (self.born[rows] != session).any():
            self.owners += 1
            self.owner[rows] = writer
            self.born[rows] = session

    def lose(self, batch: Samples, rows: NDArray[np.intp], received_ns: int) -> None:
        """Take a quality-only batch that is nobody's: values and owners stay.

        Its time is the shard's, not the source's, so the owner's next sample is current whatever its own time.
        """
        self.times[rows] = batch.times
        self.quality[rows] = batch.quality
        self.received[rows] = received_ns
        self.born[rows] = NO_BIRTH
        self.owners += 1

    def disown(self, writer: int) -> None:
        """A writer is forgotten: what it fed is anybody's."""
        self.owner[self.owner == writer] = NOBODY
        self.owners += 1

    # --- giving state ------------------------------------------------------------------------------------------------

    def state(self, rows: NDArray[np.intp]) -> list[Samples]:
        """The current state of these rows, one batch a type; rows without a value are a quality-only batch."""
        batches: list[Samples] = []
        known = self.has_value[rows]
        for kind in (ValueType.FLOAT, ValueType.INT, ValueType.BOOL, ValueType.STR):
            at = rows[known & (self.types[rows] == kind)]
            if len(at):
                batches.append(self._batch(kind, at))
        at = rows[~known]
        if len(at):
            batches.append(self._batch(ValueType.QUALITY, at))
        return batches

    def standing(self, rows: NDArray[np.intp]) -> Samples:
        """Times and qualities of these rows, without values."""
        return self._batch(ValueType.QUALITY, rows)

    def _batch(self, kind: ValueType, at: NDArray[np.intp]) -> Samples:
        values: Any = None
        if kind is ValueType.FLOAT:
            values = self.floats[at]
        elif kind is ValueType.STR:
            values = [self.strings[row] for row in at.tolist()]
        elif kind is ValueType.INT:
            values = self.ints[at]
        elif kind is ValueType.BOOL:
            values = self.ints[at].astype(np.bool_)
        return Samples(kind, self.handles[at], values, self.times[at], self.quality[at])

    def banded(self, rows: NDArray[np.intp]) -> bool:
        """Whether a deadband may swallow samples of any of these rows."""
        return self._any_band and bool((self.bands[rows] > 0).any())

    def owned_by(self, writer: int) -> NDArray[np.intp]:
        """The rows that a writer feeds."""
        return np.flatnonzero(self.owner == writer)


def _has_value(batch: Samples) -> NDArray[np.bool_]:
    if batch.kind is ValueType.FLOAT:
        given: NDArray[np.bool_] = ~np.isnan(batch.values)
        return given
    return np.full(len(batch), batch.kind is not ValueType.QUALITY)


def _without_nan(batch: Samples) -> Iterable[tuple[Samples, NDArray[np.intp]]]:
    """The batch in runs, with NaN turned to Bad without a value, and the index of each run; in the same order."""
    has_value = _has_value(batch)
    if batch.kind is ValueType.QUALITY or has_value.all():
        yield batch, np.arange(len(batch))
        return
    edges = np.flatnonzero(np.diff(has_value)) + 1
    for run in np.split(np.arange(len(batch)), edges):
        piece = batch.select(run)
        if not has_value[run[0]]:
            codes = np.where(q.bad_mask(piece.quality), piece.quality, np.uint32(q.BAD)).astype("<u4")
            piece = replace(piece, kind=ValueType.QUALITY, values=None, quality=codes)
        yield piece, run


def _waves(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Index arrays: the first occurrence of each row, then the second, and so on."""
    order = np.argsort(rows, kind="stable")
    ranked = rows[order]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(ranked)) + 1))
    lengths = np.diff(np.concatenate((starts, [len(rows)])))
    rank = np.arange(len(rows)) - np.repeat(starts, lengths)
    turn = np.empty(len(rows), np.intp)
    turn[order] = rank
    return [np.flatnonzero(turn == number) for number in range(int(turn.max()) + 1)]
