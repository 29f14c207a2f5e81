"""The shard's half of the feed: views, their beats, and the bell for durable consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tagwerk.actors.cvt.logic.audience import Audience
from tagwerk.actors.cvt.logic.views import VIEWS_LIMIT, Change, View, frames_for, pieces
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.frames import BELL_TOPIC, canonical_globs, pack_feed_header, view_topic
from tagwerk.protocols.names import glob_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tagwerk.protocols.samples import Samples
    from tagwerk.protocols.tag_rows import TagRows
    from tagwerk.runtime.transport import Port

GLOBS_LIMIT: Final = 10_000
LEASE_LIMIT_S: Final = 60.0
TOPIC_BYTES: Final = 8
SUBSCRIPTIONS_AT_ONCE: Final = 1_000
"""Then others have their turn."""


class Feed:
    """Publishes what changed to whoever looks.

    Args:
        port: The bound publisher.
        tags: The table's rows.
        incarnation: Of the shard.
        revision: Of the definitions.
    """

    def __init__(self, port: Port, tags: TagRows, incarnation: int, revision: int) -> None:
        self._port = port
        self._tags = tags
        self._incarnation = incarnation
        self._revision = revision
        self._views: dict[bytes, View] = {}
        self._audience = Audience(len(tags))
        self._greeted: dict[bytes, View] = {}
        self._strangers: set[bytes] = set()
        """Topics of views that we do not keep: whoever listens opened them at a predecessor of ours."""
        self.position = 0
        self._changes: list[Change] = []
        self._given = False
        self._bell_due = False
        self._bell_armed = True
        self._beat_due = False
        self.dropped = 0
        """Frames that the socket did not take: their watchers see the gap."""

    @property
    def views(self) -> int:
        """How many views are kept."""
        return len(self._views)

    def open_view(self, globs: Sequence[str], lease_s: float, mono_ns: int) -> View:
        """Keep a view, or renew its lease.

        Raises:
            Refused: A glob is malformed, or there are too many views.
        """
        topic = view_topic(globs)
        view = self._views.get(topic)
        until_ns = mono_ns + int((min(lease_s, LEASE_LIMIT_S) if lease_s > 0.0 else 0.0) * 1e9)  # also from NaN
        if view is not None:
            view.lease_until_ns = max(view.lease_until_ns, until_ns)
            self._greeted[topic] = view
            return view
        if len(self._views) >= VIEWS_LIMIT or len(globs) > GLOBS_LIMIT:
            raise Refused("NotPermitted", f"more than {VIEWS_LIMIT} views, or {GLOBS_LIMIT} globs in one")
        for glob in globs:
            problem = glob_problem(glob)
            if problem is not None:
                raise Refused("BadValue", f"{glob[:80]!r}: {problem}")
        view = View(topic, canonical_globs(globs), self._tags.mask_of(globs), until_ns, self.give_position())
        self._views[topic] = self._greeted[topic] = view
        self._audience.add(view)
        return view

    def view(self, topic: bytes) -> View | None:
        """The view of this topic, if it is kept."""
        return self._views.get(topic)

    def add(self, batch: Samples, rows: NDArray[np.intp], received_ns: int, frame: bytes | None = None) -> None:
        """Something became current; it goes out at the next flush, each frame of it at a position of its own.

        Args:
            batch: The samples.
            rows: Their table rows, (n,).
            received_ns: When the shard took them, UTC, ns.
            frame: A samples frame of this batch alone, if there is one.
        """
        parts = [(batch, rows)] if frame is not None else pieces(batch, rows)
        for part, part_rows in parts:
            self.position += 1
            self._changes.append(Change(part, part_rows, self.position, received_ns, self._given, frame))
            self._given = False

    def give_position(self) -> int:
        """The position for a snapshot that is taken now: no frame will reach across it."""
        self._given = True
        return self.position

    def subscriptions(self) -> None:
        """See who came: a new watcher is greeted with a beat, which proves to it that it hears us."""
        for _ in range(SUBSCRIPTIONS_AT_ONCE):
            if (frames := self._port.recv()) is None:
                return
            if frames[0] == b"\1" + BELL_TOPIC:
                self._bell_due = True  # what rang before it heard us is told again
            elif frames[0][:1] == b"\1":
                view = self._views.get(frames[0][1:])
                if view is not None:
                    self._greeted[view.topic] = view
                elif len(frames[0]) == 1 + TOPIC_BYTES:
                    self._strangers.add(frames[0][1:])

    @property
    def due(self) -> bool:
        """There is something for a flush to do."""
        return bool(self._changes or self._greeted or self._strangers or self._beat_due or self._bell_due)

    def arm_bell(self) -> None:
        """Somebody has read all that is in the journal: tell of the next thing, once for all who listen."""
        self._bell_armed = True

    def ring(self) -> None:
        """Something is new in the journal. Who heard of it reads on; until then nobody need hear of more."""
        self._bell_due, self._bell_armed = self._bell_due or self._bell_armed, False

    def flush(self, now_ns: int) -> None:
        """Publish the changes of this flush, greet newcomers, ring the bell."""
        changes, self._changes = self._changes, []
        concerned: dict[bytes, tuple[View, list[Change]]] = {}
        for change in changes:
            for view in self._audience.of(change.rows):
                concerned.setdefault(view.topic, (view, []))[1].append(change)
        for view, mine in concerned.values():
            for body, upto, received_ns in frames_for(view, mine):
                self._send(view, body, upto, received_ns, beat=False)
        for view in (self._views if self._beat_due else self._greeted).values():
            self._send(view, b"", self.position, now_ns, beat=True)
        self._greeted.clear()
        self._beat_due = False
        if self._strangers:
            at = self.position  # it tells of nothing before: whoever is behind sees a gap
            header = pack_feed_header(self._revision, self._incarnation, at, at, now_ns, beat=True)
            for topic in self._strangers:
                self._port.send([topic, header, b""])
            self._strangers.clear()
        if self._bell_due:
            self._bell_due = False
            header = pack_feed_header(self._revision, self._incarnation, 0, self.position, now_ns, beat=True)
            self._port.send([BELL_TOPIC, header, b""])

    def beat(self, mono_ns: int) -> None:
        """Once a second: every view hears at the next flush that we live; views that nobody renews end.

        Not before that flush: a beat tells that nothing else happened up to its position, and what was applied in
        this drain is not published yet.
        """
        self._beat_due = True
        ended = [view for view in self._views.values() if view.lease_until_ns < mono_ns]
        for view in ended:
            del self._views[view.topic]
            self._greeted.pop(view.topic, None)
        if ended:
            self._audience.drop(ended, self._views.values())

    def _send(self, view: View, body: bytes, upto: int, received_ns: int, *, beat: bool) -> None:
        header = pack_feed_header(self._revision, self._incarnation, view.sent, upto, received_ns, beat=beat)
        if not self._port.send([view.topic, header, body]):
            self.dropped += 1
        view.sent = upto
