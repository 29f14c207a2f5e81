"""The columns against a model that takes one sample at a time; one stream against the same stream cut elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tagwerk.actors.alarms.logic.book import AlarmState, Book
from tagwerk.actors.alarms.logic.definition import AlarmDef, AlarmType
from tagwerk.actors.alarms.logic.evaluator import Evaluator
from tagwerk.protocols import quality as q
from tagwerk.protocols.alarms import Occurrence
from tagwerk.protocols.samples import Samples, ValueType, make

S = 1_000_000_000
FLOAT_TAGS = (1, 2, 7)
BOOL_TAG = 4
UNWATCHED = (3, 90)
QUALITIES = (q.GOOD, q.GOOD, q.GOOD, q.UNCERTAIN, q.BAD_SENSOR_FAILURE, q.BAD_NO_COMMUNICATION)


@dataclass(frozen=True)
class Row:
    """One sample; `value` None keeps the last one."""

    handle: int
    value: float | bool | None
    time_ns: int
    quality: int


@dataclass(frozen=True)
class Rec:
    """What the shard received at one time: one batch a tuple."""

    received_ns: int
    batches: tuple[tuple[Row, ...], ...]


@dataclass
class Naive:
    """One alarm, one sample after the other, written down as the reference page tells it."""

    alarm: AlarmDef
    latched: bool = False
    beyond: bool = False
    active: bool = False
    bad: bool = True
    value: float | None = None
    since_ns: int | None = None
    since: tuple[int, float] = (0, 0.0)
    last_ns: int = 0
    log: list[list[Any]] = field(default_factory=list)

    def is_beyond(self, value: float) -> bool:
        alarm = self.alarm
        if alarm.type is AlarmType.BOOL:
            return bool(value) is alarm.limit
        if alarm.type in (AlarmType.HI, AlarmType.HIHI):
            return value > (alarm.limit - alarm.deadband if self.beyond else alarm.limit)
        return value < (alarm.limit + alarm.deadband if self.beyond else alarm.limit)

    def clock(self, now_ns: int) -> None:
        if self.since_ns is None or self.bad:
            return
        delay_ns = self.alarm.off_delay_ns if self.active else self.alarm.on_delay_ns
        if self.since_ns + delay_ns <= now_ns:
            self.fire(self.since_ns + delay_ns)

    def fire(self, now_ns: int) -> None:
        time_ns, value = self.since
        at_ns = time_ns if time_ns >= self.last_ns else max(now_ns, self.last_ns)
        self.last_ns = at_ns
        self.since_ns = None
        self.active = not self.active
        if self.active:
            self.log.append([at_ns, None, bool(value) if self.alarm.kind is ValueType.BOOL else value])
            self.latched = self.latched or self.alarm.latch
        else:
            self.log[-1][1] = at_ns

    def sample(self, row: Row, received_ns: int) -> None:
        self.clock(received_ns)
        if row.value is not None and not math.isnan(row.value):
            self.value = row.value
        was_bad = self.bad
        nan = row.value is not None and math.isnan(row.value)
        self.bad = row.quality >= q.BAD or nan or self.value is None
        if self.bad:
            return
        assert self.value is not None
        turned = self.is_beyond(self.value) != self.beyond
        self.beyond ^= turned
        if turned:
            self.since_ns = received_ns if self.beyond != self.active else None
            self.since = (row.time_ns, self.value)
        elif was_bad and self.active and not self.beyond:
            self.since_ns, self.since = received_ns, (row.time_ns, self.value)
        if self.since_ns is not None:
            delay_ns = self.alarm.off_delay_ns if self.active else self.alarm.on_delay_ns
            if self.since_ns + delay_ns <= received_ns:
                self.fire(received_ns)


def batch_of(rows: tuple[Row, ...]) -> Samples:
    if rows[0].value is None:
        kind = ValueType.QUALITY
    else:
        kind = ValueType.BOOL if isinstance(rows[0].value, bool) else ValueType.FLOAT
    values = None if kind is ValueType.QUALITY else [row.value for row in rows]
    return make(kind, [r.handle for r in rows], values, [r.time_ns for r in rows], [r.quality for r in rows])


delays = st.sampled_from([0, 0, S, 2 * S])


@st.composite
def alarm_lists(draw: st.DrawFn) -> list[AlarmDef]:
    found: list[AlarmDef] = []
    for n in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(list(AlarmType)))
        is_bool = kind is AlarmType.BOOL
        found.append(
            AlarmDef(
                name=f"a{n}",
                type=kind,
                limit=draw(st.booleans()) if is_bool else float(draw(st.integers(-1, 2))),
                tag="t",
                handle=BOOL_TAG if is_bool else draw(st.sampled_from(FLOAT_TAGS)),
                kind=ValueType.BOOL if is_bool else ValueType.FLOAT,
                deadband=draw(st.sampled_from([0.0, 0.5, 1.0])),
                on_delay_ns=draw(delays),
                off_delay_ns=draw(delays),
                latch=draw(st.booleans()),
                key=n * draw(st.sampled_from([1, 1, 90])) + n + 1,
            )
        )
    return found if len({a.key for a in found}) == len(found) else [replace(a, key=i + 1) for i, a in enumerate(found)]


@st.composite
def records(draw: st.DrawFn) -> list[Rec]:
    found: list[Rec] = []
    now_ns = 100 * S
    number = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, math.inf, math.nan])
    for _ in range(draw(st.integers(1, 12))):
        now_ns += draw(st.sampled_from([0, S // 2, S, 3 * S]))
        batches: list[tuple[Row, ...]] = []
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["float", "float", "bool", "quality"]))
            value = {"float": number, "bool": st.booleans(), "quality": st.none()}[kind]
            tags = {"float": (*FLOAT_TAGS, *UNWATCHED), "bool": (BOOL_TAG, 90), "quality": (*FLOAT_TAGS, BOOL_TAG)}[
                kind
            ]
            row = st.builds(
                Row,
                st.sampled_from(tags),
                value,
                st.sampled_from([now_ns - S, now_ns, now_ns + S // 10]),
                st.sampled_from(QUALITIES),
            )
            batches.append(tuple(draw(st.lists(row, min_size=1, max_size=12))))
        found.append(Rec(now_ns, tuple(batches)))
    return found


def fresh(alarms: list[AlarmDef]) -> Evaluator:
    return Evaluator(alarms, Book({}), max(a.key for a in alarms) + 1)


class Store:
    """What a restart finds."""

    def __init__(self) -> None:
        self.states: dict[str, AlarmState] = {}
        self.occurrences: dict[str, Occurrence] = {}
        self.blocks: dict[int, bytes] = {}

    def commit(self, evaluator: Evaluator) -> None:
        self.states |= evaluator.book.take_states()
        self.occurrences |= {o.occurrence: o for o in evaluator.book.take_occurrences()}
        self.blocks |= dict(evaluator.columns.take_blocks())

    def restart(self, alarms: list[AlarmDef]) -> Evaluator:
        return Evaluator(alarms, Book(dict(self.states)), max(a.key for a in alarms) + 1, self.blocks)


@given(alarm_lists(), records())
@settings(max_examples=100, deadline=None)
def test_columns_find_what_one_sample_after_the_other_finds(alarms: list[AlarmDef], stream: list[Rec]) -> None:
    evaluator, store = fresh(alarms), Store()
    naive = {alarm.name: Naive(alarm) for alarm in alarms}
    for rec in stream:
        evaluator.apply(0, rec.received_ns, [batch_of(rows) for rows in rec.batches])
        for model in naive.values():
            model.clock(rec.received_ns)
            for rows in rec.batches:
                for row in rows:
                    if row.handle == model.alarm.handle:
                        model.sample(row, rec.received_ns)
    end_ns = stream[-1].received_ns + S
    evaluator.advance(0, end_ns)
    store.commit(evaluator)
    for name, model in naive.items():
        model.clock(end_ns)
        found = [[o.raised_ns, o.cleared_ns, o.value] for o in store.occurrences.values() if o.name == name]
        assert found == model.log
        shown = evaluator.row(name)
        assert (shown.active, shown.latched, shown.acked) == (model.active, model.latched, not model.log)
        assert shown.value == model.value


@given(alarm_lists(), records(), st.data())
@settings(max_examples=60, deadline=None)
def test_the_same_stream_gives_the_same_alarms_wherever_it_is_cut(
    alarms: list[AlarmDef], stream: list[Rec], data: st.DataObject
) -> None:
    whole, store = fresh(alarms), Store()
    for rec in stream:
        whole.apply(0, rec.received_ns, [batch_of(rows) for rows in rec.batches])
    store.commit(whole)

    cut, parts = fresh(alarms), Store()
    for rec in stream:
        for rows in rec.batches:
            at = data.draw(st.integers(0, len(rows)))
            for piece in (rows[:at], rows[at:]):
                if piece:
                    cut.apply(0, rec.received_ns, [batch_of(piece)])
        what = data.draw(st.sampled_from(["go on", "beat", "commit", "restart"]))
        if what == "beat":
            cut.caught_up(0, rec.received_ns)
        elif what != "go on":
            parts.commit(cut)
        if what == "restart":
            cut = parts.restart(alarms)
    parts.commit(cut)

    assert {k: plain(o) for k, o in parts.occurrences.items()} == {k: plain(o) for k, o in store.occurrences.items()}
    for alarm in alarms:
        assert cut.row(alarm.name) == whole.row(alarm.name)
        one, other = cut.book.state(alarm.name), whole.book.state(alarm.name)
        assert replace(one, late=False, found_in_replay=False) == replace(other, late=False, found_in_replay=False)


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[AlarmDef], list[list[Rec]]]:
    """Alarms on several shards, the tags of each its own, and what each shard receives."""
    shards = draw(st.integers(2, 3))
    alarms = [replace(alarm, shard=number % shards) for number, alarm in enumerate(draw(alarm_lists()))]
    shift = {shard: 1_000 * shard for shard in range(shards)}
    streams = [
        [
            replace(
                rec, batches=tuple(tuple(replace(r, handle=r.handle + shift[shard]) for r in b) for b in rec.batches)
            )
            for rec in draw(records())
        ]
        for shard in range(shards)
    ]
    return [replace(alarm, handle=alarm.handle + shift[alarm.shard]) for alarm in alarms], streams


def end_of(streams: list[list[Rec]]) -> int:
    return max(stream[-1].received_ns for stream in streams) + 10 * S


@given(plants(), st.data())
@settings(max_examples=20, deadline=None)
def test_live_and_replay_find_the_same_over_several_shards(
    plant: tuple[list[AlarmDef], list[list[Rec]]], data: st.DataObject
) -> None:
    """Live: all shards merged by time, with their beats. Replay: each shard as far as it happens to answer."""
    alarms, streams = plant
    shards = range(len(streams))
    merged = sorted(
        ((rec.received_ns, shard, rec) for shard in shards for rec in streams[shard]), key=lambda one: one[:2]
    )
    live, seen = fresh(alarms), Store()
    for shard in shards:
        live.caught_up(shard, 0)
    for received_ns, shard, rec in merged:
        live.apply(shard, received_ns, [batch_of(rows) for rows in rec.batches])
        for beating in shards:
            live.caught_up(beating, received_ns)  # the smallest beat is the time of what was merged last
    for shard in shards:
        live.caught_up(shard, end_of(streams))
    seen.commit(live)

    replayed, found = fresh(alarms), Store()
    place, committed = dict.fromkeys(shards, 0), dict.fromkeys(shards, 0)
    while waiting := [shard for shard in shards if place[shard] < len(streams[shard])]:
        shard = data.draw(st.sampled_from(waiting), label="shard that answers")
        stop = place[shard] + data.draw(st.integers(1, 4), label="records in its page")
        for rec in streams[shard][place[shard] : stop]:
            replayed.apply(shard, rec.received_ns, [batch_of(rows) for rows in rec.batches])
        place[shard] = stop
        what = data.draw(st.sampled_from(["go on", "commit", "kill"]))
        if what == "commit":
            found.commit(replayed)
            committed = dict(place)
        elif what == "kill":  # what was not committed is read again
            replayed, place = found.restart(alarms), dict(committed)
    for shard in shards:
        replayed.caught_up(shard, end_of(streams))
    found.commit(replayed)

    assert {k: plain(o) for k, o in found.occurrences.items()} == {k: plain(o) for k, o in seen.occurrences.items()}
    assert not any(one.late for one in seen.occurrences.values()), "live"
    # Nothing of it was known before: what is over was found late, what stands was not.
    assert all(one.late is (one.cleared_ns is not None) for one in found.occurrences.values())
    for alarm in alarms:
        assert replayed.row(alarm.name) == live.row(alarm.name)


def plain(occurrence: Occurrence) -> Occurrence:
    """Without the one thing that depends on who was up when."""
    return msgspec.structs.replace(occurrence, late=False)
