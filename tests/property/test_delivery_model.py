"""A writer, its link, a shard and a durable consumer, with deaths between any two steps, against what they promise.

Every acknowledged sample is in the consumer's store exactly once, none is there twice, and their order is the writer's.
"""

from __future__ import annotations

import gc
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from delivery_rig import COUNT, LEVEL, SHARD, TEMP, Client, FullDisk, Killed, LossyPort, Rig, done, link_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tagwerk.protocols.errors import Refused, WindowFull
from tagwerk.protocols.frames import Kind, read_header
from tagwerk.protocols.samples import ValueType, decode, make
from tagwerk.protocols.tags import JournalPage, JournalTaken, PositionMark, ReadJournal
from tagwerk.runtime.durable import HISTORY_ONLY, SAMPLES, read_record
from tagwerk.runtime.publisher import Publisher
from tagwerk.runtime.writer_link import Ticket

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nothing waits for a disk there
FILES = 300
STEPS = 40
NAN = math.nan
LATE_NS = 5_000_000_000


class TearingDisk(FullDisk):
    """A disk that is full, or in whose write the process dies."""

    tear: float | None = None

    def write(self, descriptor: int, parts: Sequence[Any], offset: int) -> int:
        if self.tear is None:
            return super().write(descriptor, parts, offset)
        content = b"".join(parts)
        os.pwrite(descriptor, content[: int(len(content) * self.tear)], offset)
        raise Killed


class Delivery(RuleBasedStateMachine):
    """Deaths, losses and a full disk, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.rig = Rig(Path(self.folder.name), zmq=False)
        self.disk = self.rig.disk = TearingDisk()
        self.consumer = self.rig.client("client/0")
        self.place: PositionMark | None = None
        self.store: list[float] = []
        self.live: list[float] = []
        self.said: list[tuple[float, Ticket]] = []
        self.value = 0
        self.lives = 0
        self.client: Client
        self.publisher: Publisher

    @initialize()
    def begin(self) -> None:
        self.shard()
        self.writer()

    # --- who lives and dies ------------------------------------------------------------------------------------------

    def shard(self) -> None:
        self.disk.tear = None
        self.rig.shard()

    def writer(self) -> None:
        self.client = self.rig.client("attach/erp")
        self.lives += 1
        self.publisher = self.client.publisher("erp", incarnation=self.lives)
        port = link_of(self.publisher).port
        link_of(self.publisher).port = LossyPort(port, lambda _: False)

    @property
    def up(self) -> bool:
        return SHARD in self.rig.actors

    @precondition(lambda self: self.up)
    @rule(indexed=st.booleans())
    def kill_the_shard(self, indexed: bool) -> None:
        if not indexed:
            self.rig.cvt.journal._tail._index = None
        self.rig.kill()

    @precondition(lambda self: self.up)
    @rule(moment=st.sampled_from(["take", "commit", "committed", "answer"]), tear=st.floats(0, 1))
    def the_shard_will_die(self, moment: str, tear: float) -> None:
        shard = self.rig.cvt

        def die(*_: Any, **__: Any) -> None:
            raise Killed

        if moment == "take":
            shard.desk._taken = die  # type: ignore[method-assign, assignment]
        elif moment == "commit":
            shard.journal._tail._index = None
            self.disk.tear = tear
        elif moment == "committed":
            shard.feed.flush = die  # type: ignore[method-assign]
        else:
            shard.desk.flush = die  # type: ignore[method-assign]

    @precondition(lambda self: not self.up)
    @rule()
    def start_the_shard(self) -> None:
        self.shard()

    @rule()
    def the_writer_dies(self) -> None:
        self.client.kill()
        self.writer()

    @rule()
    def a_birth(self) -> None:
        self.publisher.begin_session()

    # --- what is said ------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3), what=st.sampled_from(["plain", "nan", "wrong", "late", "backfill"]))
    def publish(self, count: int, what: str) -> None:
        """One frame: some are recorded as they came, some need several records."""
        now_ns = self.rig.clock.now_ns()
        values = [float(self.value + number) for number in range(1, count + 1)]
        self.value += count
        tags, given, times = [TEMP] * count, list(values), [now_ns] * count
        if what == "nan":
            tags, given, times = [*tags, LEVEL], [*given, NAN], [*times, now_ns]
        elif what == "wrong":
            tags, given, times = [COUNT, *tags], [0.5, *given], [now_ns, *times]
        elif what == "late":
            times[0] -= LATE_NS
        ticket = Ticket()
        try:
            self.publisher.publish(make(ValueType.FLOAT, tags, given, times), ticket, backfill=what == "backfill")
        except (WindowFull, Refused):  # nothing of it was sent: an earlier connection of ours is not known to be dead
            return
        ticket.close()
        self.said.extend((value, ticket) for value in values)

    @rule(kind=st.sampled_from([Kind.PUBLISH, Kind.ACK, Kind.OPENED, Kind.OPEN]))
    def a_frame_gets_lost(self, kind: Kind) -> None:
        left = [1]

        def lose(frames: Sequence[Any]) -> bool:
            mine = frames[0] if kind in (Kind.PUBLISH, Kind.OPEN) else frames[1]
            return bool(left) and read_header(mine).kind == kind and bool(left.pop())

        if kind in (Kind.PUBLISH, Kind.OPEN):
            port = link_of(self.publisher).port
            assert isinstance(port, LossyPort)
            port.lose = lose
        elif self.up:
            self.rig.cvt.desk._port = LossyPort(self.rig.cvt.desk._port, lose)

    @rule(full=st.booleans())
    def the_disk(self, full: bool) -> None:
        self.disk.full = full

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.0, 0.06, 0.6]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)
        self.rig.turn()

    # --- the consumer ------------------------------------------------------------------------------------------------

    @rule(tells=st.booleans(), limit=st.sampled_from([1, 200, 1 << 20]))
    def the_consumer_reads(self, tells: bool, limit: int) -> None:
        """Data and place are committed together; then it may die before it says so."""
        self.consumer.outcomes.clear()
        self.consumer.ask(ReadJournal("model/0", self.place, limit), SHARD, 0.5)
        for _ in range(4):
            self.rig.turn()
        for page in self.consumer.outcomes:
            if isinstance(page, JournalPage):
                self.take(page)
                if tells:
                    self.consumer.peers.tell(SHARD, JournalTaken("model/0", page.position))

    def take(self, page: JournalPage) -> None:
        assert page.hole is None
        for record in map(read_record, page.records):
            if record.kind not in (SAMPLES, HISTORY_ONLY):
                continue
            for batch in decode(record.frame):
                if batch.kind is ValueType.FLOAT:
                    values = batch.values[batch.tags == TEMP].tolist()
                    self.store += values
                    self.live += values if record.kind == SAMPLES else []
        self.place = page.position

    # --- what is promised --------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.heal()
            self.check()
        finally:
            self.rig.close()
            self.folder.cleanup()
            if len(os.listdir("/proc/self/fd")) > FILES:  # who was killed has closed nothing
                gc.collect()

    def heal(self) -> None:
        self.disk.full, self.disk.tear = False, None
        self.rig.until(
            lambda: self.restarted() and self.publisher.pending == 0, 60.0
        )  # each lost opening costs half a second
        for _ in range(10_000):
            before = self.place
            self.restarted()  # a death that was arranged may come by the reading
            self.the_consumer_reads(tells=True, limit=1 << 20)
            if self.place is not None and self.place == before:
                return
        raise AssertionError("the consumer does not come to the end")

    def restarted(self) -> bool:
        if not self.up:  # a death that was arranged may still come
            self.shard()
        return self.publisher.opened

    def check(self) -> None:
        seen = Counter(self.store)
        assert [value for value, times in seen.items() if times > 1] == []
        acknowledged = {value for value, ticket in self.said if done(ticket) and not ticket.not_journaled}
        assert sorted(acknowledged - set(seen)) == []
        assert set(seen) <= {value for value, _ in self.said}
        assert self.live == sorted(self.live)


def test_each_sample_once_whatever_dies() -> None:
    run_state_machine_as_test(Delivery, settings=settings(max_examples=75, stateful_step_count=STEPS, deadline=None))


@pytest.mark.long
def test_each_sample_once_in_thousands_of_lives() -> None:
    run_state_machine_as_test(
        Delivery, settings=settings(max_examples=5_000, stateful_step_count=2 * STEPS, deadline=None)
    )
