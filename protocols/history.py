"""What is said about history."""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record


class GetHistory(Message, frozen=True):
    """To `historian/0`: samples of one tag with `start_ns <= time < end_ns`, oldest first. Answered by `HistoryPage`.

    `limit` 0 means as many as fit into a page. To go on, ask again with `after` and `skip` = the page's `next_after`
    and `skip`: the time of the last sample that was given, and how many of that time were.
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
    skip: int = 0


class HistoryPage(Message, frozen=True):
    """Samples frames, oldest first; `next_after` is None at the end.

    A run of samples in which only the quality changed is a quality-only batch: a gap, no value was measured.
    `behind`: the historian could not reach the shard, or has not caught up with it: newest samples may be missing.
    """

    frames: tuple[bytes, ...]
    next_after: int | None
    behind: bool = False
    skip: int = 0


class GetTrend(Message, frozen=True):
    """To `historian/0`: the course of a tag of numbers with `start_ns <= time < end_ns` in about `points` samples.

    The least and the greatest value of each stretch are among them, and every gap. `bounds`: also the last sample
    before `start_ns`. Answered by a `HistoryPage` without `next_after`.
    """

    handle: int
    start_ns: int
    end_ns: int
    points: int = 2_000
    bounds: bool = False


class GetTable(Message, frozen=True):
    """To `historian/0`: a tag in buckets `[start_ns + i x step_ns, + step_ns)`. Answered by `HistoryTable`.

    The last bucket is the one in which `end_ns` or the present lies. `columns`: of `value` (at the start of a bucket),
    `interpolated` (the same, float only), `average` (over time), `min`, `max`, `count`, `on_time` (seconds, bool only),
    `delta` (of a counter), `known` (seconds in which a value was known). `wrap`: what a counter counts to before it is
    0 again; None: a step downwards is a new start at 0.
    """

    handle: int
    start_ns: int
    end_ns: int
    step_ns: int
    columns: tuple[str, ...]
    wrap: float | None = None


class TableColumn(Record, frozen=True):
    """`kind` is a `ValueType`; `values` are little-endian as in a samples frame, texts stand in `texts`.

    `present`: a byte a row, 0 where there is no value.
    """

    name: str
    kind: int
    values: bytes
    present: bytes
    texts: tuple[str, ...] = ()


class HistoryTable(Message, frozen=True):
    """The buckets from `start_ns` on, the columns in the order asked for. `behind`: see `HistoryPage`."""

    start_ns: int
    step_ns: int
    rows: int
    columns: tuple[TableColumn, ...]
    behind: bool = False


class GetHistorianState(Message, frozen=True):
    """To `historian/0`: what it holds, as (what, detail) lines. Answered by `HistorianState`."""


class HistorianState(Message, frozen=True):
    """`rows` stored and the number `n` of each shard's journal up to which it has committed."""

    rows: int
    positions: tuple[tuple[str, int], ...]


class BeginImport(Message, frozen=True):
    """To `historian/0`: may samples of this span be imported? Answered by `Done`, or `Refusal`: why not.

    Nothing is kept of it.
    """

    start_ns: int
    end_ns: int


class ImportSamples(Message, frozen=True):
    """To `historian/0`: samples from elsewhere, for history only. Answered by `ImportTaken`, or `Refusal`.

    Columns, little-endian: handles uint32 (n,), times int64 (n,), ns since 1970, `bits` the values' 8 bytes (n,): a
    double's bits, an integer, 0 or 1, or a place in `texts`; StatusCodes uint32 (n,), `kinds` the `ValueType` of each,
    uint8 (n,): the tag's type, or `QUALITY`: no value. A sample that history has already is left out, so it may be
    sent again. Refused with `Conflict` while another import is being taken.
    """

    tags: bytes
    times: bytes
    bits: bytes
    quality: bytes
    kinds: bytes
    texts: tuple[str, ...] = ()


class ImportTaken(Message, frozen=True):
    """Committed: `added` samples are new, `known` were there already."""

    added: int
    known: int


class EndImport(Message, frozen=True):
    """To `historian/0`: all of a file was sent; it becomes an event. Answered by `Done`."""

    user: str
    host: str
    file: str
    added: int
    known: int
