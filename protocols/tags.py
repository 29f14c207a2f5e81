"""What is said about tags: definitions, read, write, watch, the journal's pages."""

from __future__ import annotations

from tagwerk.protocols.message import Message, Record
from tagwerk.protocols.samples import Value


class TagDef(Record, frozen=True):
    """The definition of a tag, as `plant/0` gives it. Limits are in `unit`.

    `deadband` is that of current values: what it swallows is no sample. The keys with `log_` say what of the samples
    history leaves out, see `log_rule`; None: that rule is not given.
    """

    handle: int
    name: str
    type: str
    shard: int
    unit: str = ""
    display_unit: str = ""
    low: float | None = None
    high: float | None = None
    write_low: float | None = None
    write_high: float | None = None
    deadband: float = 0.0
    deadband_pct: float | None = None
    stale_after_s: float | None = None
    hold_s: float = 0.0
    source: str = ""
    node: str = ""
    writable: bool = False
    default: Value = None
    log: bool = True
    labels: tuple[str, ...] = ()
    description: str = ""
    area: str = ""
    log_deadband: float | None = None
    log_max_interval_s: float | None = None
    log_compression_dev: float | None = None

    @property
    def is_thinned(self) -> bool:
        """True if history leaves samples out by a rule."""
        return self.log and not (self.log_deadband is None and self.log_compression_dev is None)

    @property
    def log_rule(self) -> bool | dict[str, float]:
        """What history keeps, in the form of the plant file: all, nothing, or the keys of a rule."""
        if not self.is_thinned:
            return self.log
        keys = {
            "deadband": self.log_deadband,
            "max_interval_s": self.log_max_interval_s,
            "compression_dev": self.log_compression_dev,
        }
        return {key: value for key, value in keys.items() if value is not None}


class GetDefinitions(Message, frozen=True):
    """To `plant/0`: the definitions from row `start` on. Answered by `Definitions`."""

    start: int = 0
    limit: int = 5_000


class Definitions(Message, frozen=True):
    """A page of all definitions, ordered by handle; `total` tells how many there are."""

    revision: int
    total: int
    tags: tuple[TagDef, ...]


class ReadTags(Message, frozen=True):
    """To a shard: the current values of these handles. Answered by `TagStates`."""

    handles: tuple[int, ...]


class TagState(Record, frozen=True):
    """The current value of one tag; times in ns since 1970, UTC; 0 where there is none yet."""

    handle: int
    value: Value
    quality: int
    time_ns: int
    received_ns: int
    owner: str = ""


class TagStates(Message, frozen=True):
    """One state a handle asked for, in order. `live_only`: what is received now is in no journal."""

    states: tuple[TagState, ...]
    live_only: bool = False


class WriteTag(Message, frozen=True):
    """To a shard, which hands it to the tag's owner: set this tag. `value` is in the engineering unit.

    Answered by `TagWritten`, `Refusal`, `WriteNotSent` or `WriteUnknown`. Done at most once, never retried by us.
    `lease` names the lease under which a cyclic writer (a machine) writes, or "".
    """

    handle: int
    value: float | int | bool | str
    by: str = ""
    host: str = ""
    reason: str = ""
    lease: str = ""


class SetOutput(Message, frozen=True):
    """From a shard to the owner of a tag (its link): write it to the device now, at most once.

    Same answers as `WriteTag`. `by` is the actor or user that asked for it, for leases and the log.
    """

    handle: int
    value: float | int | bool | str
    by: str = ""
    lease: str = ""


class TagWritten(Message, frozen=True):
    """The write was taken; this is the value read back from where it lives.

    `not_journaled`: it is current, but the journal is at its cap or the disk is full, so history does not have it.
    """

    handle: int
    value: Value
    quality: int
    time_ns: int
    not_journaled: bool = False


class WriteNotSent(Message, frozen=True):
    """The write was certainly not done."""

    message: str


class WriteUnknown(Message, frozen=True):
    """The write was handed over, and nobody knows whether it was done."""

    message: str


class HoldLease(Message, frozen=True):
    """To the owner of outputs (an OPC UA link): hold a lease on these tags, or renew it.

    When it lapses the owner writes each safe value once (`None`: keep). One live lease an output. Answered by `Done`
    or `Refusal` (Conflict, UnknownTag).
    """

    lease: str
    handles: tuple[int, ...]
    safe: tuple[Value, ...]
    lease_s: float


class DropLease(Message, frozen=True):
    """To the owner of outputs: the holder is done. `write_safe` asks for the safe values now."""

    lease: str
    write_safe: bool


class OpenView(Message, frozen=True):
    """To a shard: keep a view of the tags that match these names or globs. Asked again before `lease_s` it lives on.

    Answered by `ViewOpened`. The view's topic is `view_topic(globs)`.
    """

    globs: tuple[str, ...]
    lease_s: float


class ViewOpened(Message, frozen=True):
    """The view is kept; its frames carry this incarnation."""

    topic: bytes
    incarnation: int


class GetSnapshot(Message, frozen=True):
    """To a shard: the state of a view at one position. Answered by `ViewSnapshot`."""

    topic: bytes


class ViewSnapshot(Message, frozen=True):
    """The state of a view at `position` of `incarnation`, as samples frames."""

    topic: bytes
    incarnation: int
    position: int
    received_ns: int
    frames: tuple[bytes, ...]


class PositionMark(Record, frozen=True):
    """A place in a shard's journal: which journal, who wrote there, record number."""

    journal: int
    incarnation: int
    n: int


class ReadJournal(Message, frozen=True):
    """From a durable consumer to a shard: records after this place (None: from the first).

    Answered by `JournalPage`. `skip`: no record is wanted; the page is empty, and its position the last there is.
    `taken`: says what a `JournalTaken` with this place would say.
    """

    consumer: str
    after: PositionMark | None
    limit_bytes: int = 1 << 20
    skip: bool = False
    taken: PositionMark | None = None


class JournalPage(Message, frozen=True):
    """Records in order; each is `[n, kind, revision, incarnation, writer, sequence, received_ns, frame]` in msgpack.

    `position` is the place after them. `at_end`: nothing more for now; `beat_ns` is then the shard's clock, and no
    later record is older. `hole`: the place asked for is gone; (from n, to n) were missed.
    """

    position: PositionMark
    records: tuple[bytes, ...]
    at_end: bool
    beat_ns: int
    hole: tuple[int, int] | None = None


class JournalTaken(Message, frozen=True):
    """From a durable consumer: it has synced all up to here."""

    consumer: str
    position: PositionMark


class ExplainTag(Message, frozen=True):
    """To a shard: why does this tag look as it does? Answered by `TagExplained`."""

    handle: int


class TagExplained(Message, frozen=True):
    """Where a value comes from and what happened to it, as (what, detail) lines."""

    lines: tuple[tuple[str, str], ...]
