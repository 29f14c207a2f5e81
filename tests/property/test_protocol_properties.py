"""Whatever bytes come, whatever gets lost, whoever restarts: one kind of error, and each item once, in order."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tagwerk.actors.cvt.logic.table import Table
from tagwerk.protocols import quality as q
from tagwerk.protocols.codec import MAX_DEPTH, MAX_FRAME_BYTES, pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.frames import Kind, pack_header, read_header, read_link_header
from tagwerk.protocols.link import Arrival, ReceiveCounter, SendWindow
from tagwerk.protocols.message import decode_message, encode_message
from tagwerk.protocols.samples import Samples, ValueType, concatenate, decode, encode, make, split
from tagwerk.protocols.tag_rows import TagRows
from tagwerk.protocols.tags import TagDef, TagState, TagStates, WriteTag

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {
    ValueType.FLOAT: st.floats(width=64),
    ValueType.INT: INT64,
    ValueType.BOOL: st.booleans(),
    ValueType.STR: TEXT,
    ValueType.QUALITY: st.none(),
}


@st.composite
def batches(draw: st.DrawFn) -> Samples:
    kind = draw(st.sampled_from(list(ValueType)))
    rows = draw(st.lists(st.tuples(UINT32, VALUES[kind], INT64, UINT32 | st.just(0)), max_size=8))
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    return make(kind, columns[0], None if kind is ValueType.QUALITY else columns[1], columns[2], columns[3])


def columns(batch: Samples) -> tuple[Any, ...]:
    values = batch.values if batch.values is None or isinstance(batch.values, list) else batch.values.tobytes()
    return batch.kind, batch.tags.tobytes(), values, batch.times.tobytes(), batch.quality.tobytes()


PLAIN = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT | INT64, inner, max_size=4),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


class TestBytes:
    @given(st.lists(batches(), max_size=5))
    def test_samples_come_back_as_they_went(self, given: list[Samples]) -> None:
        assert [columns(batch) for batch in decode(encode(given))] == [columns(batch) for batch in given]

    @given(batches(), st.integers(1, 4_000))
    @settings(max_examples=30)
    def test_what_is_split_fits_and_is_whole(self, batch: Samples, times: int) -> None:
        many = batch.select(np.resize(np.arange(len(batch)), times)) if len(batch) else batch
        groups = list(split([many]))
        frames = [encode(group) for group in groups]
        assert all(len(frame) <= MAX_FRAME_BYTES for frame in frames)
        back = concatenate([one for frame in frames for one in decode(frame)])
        assert columns(back) == columns(many)

    @given(PLAIN)
    def test_the_codec_gives_back_what_it_took(self, value: Any) -> None:
        if depth(value) <= MAX_DEPTH:
            assert unpack(pack(value)) == value

    @given(st.integers(0, 40))
    def test_depth_is_bounded(self, levels: int) -> None:
        value: Any = 1
        for level in range(levels):
            value = [value] if level % 2 else {"a": value}
        if levels <= MAX_DEPTH:
            assert depth(unpack(pack(value))) == levels
        else:
            _refused(unpack, pack(value))

    @given(st.binary(max_size=200), st.integers(0, 200))
    def test_size_is_bounded(self, data: bytes, limit: int) -> None:
        if len(data) > limit:
            _refused(lambda body: unpack(body, max_bytes=limit), data)

    @given(st.binary(max_size=300) | PLAIN.map(pack))
    def test_any_bytes_are_a_value_or_the_peers_fault(self, data: bytes) -> None:
        for read in (unpack, decode, decode_message, read_header, read_link_header):
            _read(read, data)

    @given(st.lists(PLAIN, max_size=6), st.sampled_from([*map(int, Kind), 0]))
    def test_any_fields_are_a_header_or_the_peers_fault(self, fields: list[Any], kind: int) -> None:
        _read(read_header, pack([1, kind, *fields]))

    @given(st.sampled_from([*map(int, Kind), 0]), st.lists(INT64 | st.booleans() | TEXT, max_size=6), st.data())
    def test_a_damaged_header_is_one_or_the_peers_fault(
        self, kind: int, fields: list[Any], data: st.DataObject
    ) -> None:
        for right in (fields, [1, 2, 3, 4, "fuzz", 5], [1, "fuzz", 3, True]):
            header = bytearray(pack([1, kind, *right]))
            header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
            _read(read_header, bytes(header))

    @given(st.lists(PLAIN, max_size=6), st.sampled_from(["WriteTag", "TagStates", "JournalPage", "TagDef", "Refusal"]))
    def test_any_fields_are_a_message_or_the_peers_fault(self, fields: list[Any], name: str) -> None:
        _read(decode_message, pack([name, *fields]))

    @given(UINT32, st.floats(allow_nan=False) | INT64 | TEXT | st.none(), st.lists(PLAIN, max_size=2), st.data())
    def test_a_damaged_message_is_what_it_says_or_the_peers_fault(
        self, handle: int, value: Any, more: list[Any], data: st.DataObject
    ) -> None:
        """Read in one step or in two, it says the same."""
        right = TagStates((TagState(handle, value, 0, 1, 2),))
        body = bytearray(pack([*unpack(encode_message(right)), *more]))
        assert decode_message(bytes(body)) == right
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        read = _read(decode_message, bytes(body))
        try:
            plain = msgspec.convert(unpack(bytes(body)), TagStates)
        except (RemoteProtocolError, msgspec.ValidationError):
            return
        assert repr(read) == repr(plain)  # nan is nan

    @given(st.lists(st.tuples(st.integers(0, 5), PLAIN, PLAIN, PLAIN, PLAIN) | PLAIN, max_size=3))
    def test_any_batches_are_samples_or_the_peers_fault(self, rows: list[Any]) -> None:
        _read(decode, pack([1, rows]))

    @given(st.lists(batches(), min_size=1, max_size=3), st.data())
    def test_a_damaged_frame_is_samples_or_the_peers_fault(self, given: list[Samples], data: st.DataObject) -> None:
        frame = bytearray(encode(given))
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        _read(decode, bytes(frame[: data.draw(st.integers(0, len(frame)))]))

    @given(UINT32, st.floats(allow_nan=False) | INT64 | st.booleans() | TEXT, TEXT)
    def test_messages_come_back_as_they_went(self, handle: int, value: Any, name: str) -> None:
        for message in (WriteTag(handle, value, name), TagStates((TagState(handle, value, 0, 1, 2, name),))):
            assert decode_message(encode_message(message)) == message

    @given(st.sampled_from([Kind.TELL, Kind.ASK]), st.lists(INT64, min_size=4, max_size=4), TEXT)
    def test_headers_come_back_as_they_went(self, kind: Kind, numbers: list[int], sender: str) -> None:
        header = read_header(pack_header(kind, *numbers, sender, 9))
        assert [header.session, header.number, header.incarnation, header.deadline_ns] == numbers
        assert (header.sender, header.token) == (sender, 9)


def _read(read: Any, data: bytes) -> Any:
    try:
        return read(data)
    except RemoteProtocolError:
        return None


def _refused(read: Any, data: bytes) -> None:
    try:
        read(data)
    except RemoteProtocolError:
        return
    raise AssertionError("it was taken")


class Link(RuleBasedStateMachine):
    """A writer and a shard as they use the numbered link, over wires that lose, repeat and break.

    The shard's journal survives it; the writer's window dies with it. What waits in a dead writer was never
    acknowledged, so it may be there or not, but never twice and never out of order.
    """

    LIMIT = 4

    def __init__(self) -> None:
        super().__init__()
        self.pushed = 0
        self.acknowledged: set[int] = set()
        self.abandoned: set[int] = set()
        self.journal: list[int] = []
        self.last = 0
        self.counter = ReceiveCounter()
        self.window: SendWindow[int] = SendWindow(self.LIMIT)
        self.opened = False
        self.to_shard: deque[tuple[str, int, int]] = deque()
        self.to_writer: deque[tuple[str, int]] = deque()

    @rule()
    @precondition(lambda self: not self.window.full)
    def push(self) -> None:
        self.window.push(self.pushed)
        self.pushed += 1

    @rule()
    @precondition(lambda self: self.opened)
    def send(self) -> None:
        turn = self.window.to_send()
        if turn is not None:
            self.to_shard.append(("publish", *turn))
            self.window.sent()

    @rule()
    @precondition(lambda self: not self.opened)
    def knock(self) -> None:
        self.to_shard.append(("open", 0, 0))

    @rule()
    def stall(self) -> None:
        """The writer does not get on, and opens its link again."""
        if self.opened:
            self.opened = False
            self.to_shard.append(("open", 0, 0))

    @rule()
    @precondition(lambda self: self.to_shard)
    def lose_one_on_the_way(self) -> None:
        del self.to_shard[len(self.to_shard) // 2]

    @rule()
    @precondition(lambda self: self.to_shard)
    def send_one_twice(self) -> None:
        self.to_shard.appendleft(self.to_shard[0])

    @rule()
    @precondition(lambda self: self.to_writer)
    def lose_an_answer(self) -> None:
        del self.to_writer[len(self.to_writer) // 2]

    @rule()
    @precondition(lambda self: self.to_shard)
    def shard_takes(self) -> None:
        what, number, item = self.to_shard.popleft()
        if what == "open":
            self.to_writer.append(("opened", self.counter.last + 1))
            return
        arrival = self.counter.judge(number)
        if arrival is Arrival.NEXT:
            self.counter.take(number)
            self.journal.append(item)
            self.last = number
        if arrival is Arrival.AHEAD:
            self.to_writer.append(("expected", self.counter.last + 1))
        else:
            self.to_writer.append(("ack", self.counter.last))

    @rule()
    @precondition(lambda self: self.to_writer)
    def writer_hears(self) -> None:
        what, number = self.to_writer.popleft()
        try:
            if what == "ack":
                self.acknowledged.update(self.window.acknowledge(number))
            elif what == "expected":
                self.window.go_back(number)
            elif not self.opened:
                self.acknowledged.update(self.window.renumber(number))
                self.opened = True
        except RemoteProtocolError:
            self.opened = False
            self.to_shard.append(("open", 0, 0))

    @rule()
    def shard_restarts(self) -> None:
        """Both wires break; what was in them is lost. The journal knows the number."""
        self.to_shard.clear()
        self.to_writer.clear()
        self.counter = ReceiveCounter(self.last)
        self.opened = False

    @rule()
    def writer_restarts(self) -> None:
        self.to_shard.clear()
        self.to_writer.clear()
        self.abandoned.update(self.window.waiting())
        self.window = SendWindow(self.LIMIT)
        self.opened = False

    @invariant()
    def each_once_and_in_order(self) -> None:
        assert self.journal == sorted(set(self.journal))

    @invariant()
    def what_is_acknowledged_is_there(self) -> None:
        assert self.acknowledged <= set(self.journal)

    def deliver(self) -> None:
        while self.to_shard:
            self.shard_takes()
        while self.to_writer:
            self.writer_hears()

    def teardown(self) -> None:
        """With wires that hold, all that is pushed arrives."""
        for _ in range(20 * self.LIMIT):
            if not self.opened:
                self.to_shard.append(("open", 0, 0))
            self.deliver()
            while self.opened and self.window.to_send() is not None:
                self.send()
            self.deliver()
            if not len(self.window):
                break
            self.stall()
        assert len(self.window) == 0
        assert set(range(self.pushed)) - self.abandoned <= set(self.journal)
        self.each_once_and_in_order()


TestLink = Link.TestCase
TestLink.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- the table against the rules, one sample at a time -------------------------------------------------------------

S = 1_000_000_000
NOW = 1_000 * S
KINDS = {1: ValueType.FLOAT, 2: ValueType.FLOAT, 3: ValueType.INT, 4: ValueType.STR}
NAMES = {ValueType.FLOAT: "float", ValueType.INT: "int", ValueType.STR: "str"}
BANDS = {1: 0.0, 2: 2.0, 3: 0.0, 4: 0.0}
TAGS = [TagDef(handle, f"t{handle}", NAMES[kind], 0, deadband=BANDS[handle]) for handle, kind in KINDS.items()]


@dataclass
class Row:
    value: Any = None
    quality: int = q.BAD_WAITING_FOR_INITIAL_DATA
    time: int = 0
    owner: int = 0
    born: int = 0


@dataclass
class Reference:
    """What becomes of each sample, in the words of the rules."""

    rows: dict[int, Row] = field(default_factory=lambda: {handle: Row() for handle in KINDS})
    current: list[tuple[int, Any, int, int]] = field(default_factory=list[tuple[int, Any, int, int]])
    late: list[tuple[int, Any, int, int]] = field(default_factory=list[tuple[int, Any, int, int]])
    refused: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    clock: bool = False

    def apply(self, batch: list[tuple[int, Any, int, int]], kind: ValueType, writer: int, birth: int, dead: set[int],
              known: bool) -> None:  # fmt: skip
        self.current, self.late, self.refused, self.clock = [], [], [], False
        taken = [
            (number, sample)
            for number, sample in enumerate(batch)
            if self.permitted(number, sample, kind, writer, dead)
        ]
        times = {number: self.judge(sample, kind, writer, birth) for number, sample in taken}
        if taken and all(verdict == "late" for verdict in times.values()):
            times = dict.fromkeys(times, "wrong")
        marked: set[int] = set()
        for number, sample in taken:
            if times[number] == "late":
                self.late.append(self.shown(sample, kind))
                continue
            handle, value, time_ns, quality = sample
            if times[number] == "wrong":
                self.clock = True
                if not known and handle not in marked:
                    marked.add(handle)
                    quality = q.UNCERTAIN if q.is_good(quality) else quality
            self.put((handle, value, time_ns, quality), kind, writer, birth)

    def permitted(self, number: int, sample: tuple[int, Any, int, int], kind: ValueType, writer: int,
                  dead: set[int]) -> bool:  # fmt: skip
        handle = sample[0]
        row = self.rows.get(handle)
        code = ""
        if row is None:
            code = "UnknownTag"
        elif kind is not ValueType.QUALITY and KINDS[handle] is not kind:
            code = "WrongType"
        elif row.owner not in (0, writer) and row.owner not in dead:
            code = "NotOwner"
        if code:
            self.refused.append((number, handle, code))
        return not code

    def judge(self, sample: tuple[int, Any, int, int], kind: ValueType, writer: int, birth: int) -> str:
        handle, value, time_ns, _ = sample
        row = self.rows[handle]
        ahead = time_ns - NOW > 10 * S
        if row.owner != writer or row.born != birth:
            return "wrong" if ahead else "right"  # the first of its session
        back = row.time - time_ns
        if back >= 10 * S:
            return "wrong"
        without = kind is ValueType.QUALITY or (kind is ValueType.FLOAT and math.isnan(value))
        if back > 0 and not without:
            return "late"
        return "wrong" if ahead else "right"

    @staticmethod
    def shown(sample: tuple[int, Any, int, int], kind: ValueType) -> tuple[int, Any, int, int]:
        handle, value, time_ns, quality = sample
        if kind is ValueType.FLOAT and math.isnan(value):
            return handle, None, time_ns, quality if q.is_bad(quality) else q.BAD
        return handle, value, time_ns, quality

    def put(self, sample: tuple[int, Any, int, int], kind: ValueType, writer: int, birth: int) -> None:
        handle, value, time_ns, quality = shown = self.shown(sample, kind)
        row = self.rows[handle]
        band = BANDS[handle]
        small = band and value is not None and row.value is not None and abs(value - row.value) < band
        if small and quality == row.quality:
            return
        self.current.append(shown)
        self.rows[handle] = Row(row.value if value is None else value, quality, time_ns, writer, birth)


SAMPLE_VALUES = {
    ValueType.FLOAT: st.integers(0, 6).map(float) | st.just(math.nan),
    ValueType.INT: st.integers(0, 3),
    ValueType.STR: st.sampled_from(["a", "b"]),
    ValueType.QUALITY: st.none(),
}
TIMES = st.integers(-25, 15).map(lambda seconds: NOW + seconds * S)
CODES = st.sampled_from([q.GOOD, q.GOOD, q.UNCERTAIN, q.BAD])


@st.composite
def published(draw: st.DrawFn) -> tuple[ValueType, list[tuple[int, Any, int, int]], int, bool]:
    kind = draw(st.sampled_from([ValueType.FLOAT, ValueType.FLOAT, ValueType.INT, ValueType.STR, ValueType.QUALITY]))
    sample = st.tuples(st.integers(1, 6), SAMPLE_VALUES[kind], TIMES, CODES)
    return kind, draw(st.lists(sample, min_size=1, max_size=7)), draw(st.integers(1, 2)), draw(st.booleans())


class Current(RuleBasedStateMachine):
    """The table in columns and the rules sample by sample come to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(TagRows.of(TAGS))
        self.reference = Reference()
        self.births = {1: 1, 2: 1}
        self.dead: set[int] = set()

    @rule(what=published())
    def publish(self, what: tuple[ValueType, list[tuple[int, Any, int, int]], int, bool]) -> None:
        kind, samples, writer, known = what
        self.dead.discard(writer)
        tags, values, times, codes = zip(*samples, strict=True)
        batch = make(kind, tags, None if kind is ValueType.QUALITY else list(values), times, codes)
        dead = np.array([number in self.dead for number in range(3)])
        done = self.table.apply(batch, writer, self.births[writer], NOW, dead, clock_known_wrong=known)
        self.reference.apply(samples, kind, writer, self.births[writer], self.dead, known)
        assert done.refused == self.reference.refused
        assert _by_tag(done.current) == _listed(self.reference.current)
        assert _by_tag(done.history_only) == _listed(self.reference.late)
        assert (done.clock_step is not None) == self.reference.clock
        if done.untouched:
            assert [columns(one) for one in done.current] == [columns(batch)]

    @rule(writer=st.integers(1, 2))
    def dies(self, writer: int) -> None:
        self.dead.add(writer)
        rows = self.table.owned_by(writer)
        if not len(rows):
            return
        lost = make(ValueType.QUALITY, self.table.handles[rows], None, NOW, q.BAD_NO_COMMUNICATION)
        self.table.lose(lost, rows, NOW)
        for row in self.reference.rows.values():
            if row.owner == writer:
                row.quality, row.time, row.born = q.BAD_NO_COMMUNICATION, NOW, -1
        self.births[writer] += 1

    @rule(writer=st.integers(1, 2))
    def is_born(self, writer: int) -> None:
        self.births[writer] += 1

    @invariant()
    def the_state_is_the_same(self) -> None:
        for handle, row in self.reference.rows.items():
            at = self.table.row(handle)
            assert at is not None
            found = (self.table.value(at), int(self.table.quality[at]), int(self.table.times[at]))
            assert found == (row.value, row.quality, row.time)
            assert int(self.table.owner[at]) == row.owner


TestCurrent = Current.TestCase
TestCurrent.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)


def _by_tag(given: list[Samples]) -> dict[int, list[tuple[Any, int, int]]]:
    rows: list[tuple[int, Any, int, int]] = []
    for batch in given:
        values: Any = [None] * len(batch) if batch.values is None else batch.values
        rows.extend(
            (int(tag), value if value is None or isinstance(value, str) else value.item(), int(time_ns), int(code))
            for tag, value, time_ns, code in zip(batch.tags, values, batch.times, batch.quality, strict=True)
        )
    return _listed(rows)


def _listed(rows: list[tuple[int, Any, int, int]]) -> dict[int, list[tuple[Any, int, int]]]:
    """Each tag's samples in their order; between tags a deadband may change it."""
    found: dict[int, list[tuple[Any, int, int]]] = {}
    for handle, value, time_ns, code in rows:
        found.setdefault(handle, []).append((value, time_ns, code))
    return found
