"""The headers of frames: msgpack lists that start with the version and the kind. See `docs/wire.md`."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tagwerk.protocols.codec import VERSION, pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER_LIMIT_BYTES: Final = 262_144
"""An acknowledgement that lists every sample of a full frame as refused fits."""

ASKER_HEADER_LIMIT_BYTES: Final = 4_096
"""What an asker or a writer has to say in a header is short: nothing longer is looked at."""

BELL_TOPIC: Final = b"\0bell\0\0\0"
"""The topic of a shard's bell: an empty frame after each flush. Eight bytes, as all topics."""


class Kind(IntEnum):
    """What a frame is."""

    # control lane: from the sender
    TELL = 1
    ASK = 2
    # control lane: from the receiver
    REPLY = 3
    RECEIPT = 4
    DROPPED = 5
    # ingest lane: from the writer
    OPEN = 16
    PUBLISH = 17
    ALIVE = 18
    GOODBYE = 19
    # ingest lane: from the shard
    OPENED = 32
    ACK = 33
    EXPECTED = 34
    BEAT = 35
    REOPEN = 36
    REFUSED = 37


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The first part of every header."""

    version: int
    kind: int


class ControlHeader(Header, frozen=True):
    """TELL and ASK: `number` of this frame in the sender's `session` with this receiver.

    `incarnation`: of the receiver it is meant for. `deadline_ns`: of this host's monotonic clock, 0 for none; a
    frame that is late is not carried out. `token` comes back in the reply.
    """

    session: int
    number: int
    incarnation: int
    deadline_ns: int
    sender: str
    token: int = 0


class ReplyHeader(Header, frozen=True):
    """REPLY: the body is the answer to the ask with this token.

    `handled`: as a receipt of that number; 0 for none.
    """

    session: int
    token: int
    handled: int = 0


class ReceiptHeader(Header, frozen=True):
    """RECEIPT: all frames of `session` up to `number` were handled."""

    session: int
    number: int


class DroppedHeader(Header, frozen=True):
    """DROPPED: frame `number` was certainly not carried out, because of `reason`."""

    session: int
    number: int
    reason: str


class OpenHeader(Header, frozen=True):
    """OPEN: a writer (re)opens its link.

    `session` is new at each birth of the source and stays while only the link is opened again. `incarnation` grows
    with each life of the writer; an attached process gives its start time. `named`: remember its number for good.
    """

    session: int
    writer: str
    incarnation: int
    named: bool


class PublishHeader(Header, frozen=True):
    """PUBLISH: batch `number` of the writer; the body is a samples frame. `backfill`: history only."""

    session: int
    number: int
    backfill: bool = False


class SessionHeader(Header, frozen=True):
    """ALIVE, GOODBYE, BEAT, REOPEN: about a session."""

    session: int


class ExpectedHeader(Header, frozen=True):
    """EXPECTED: the shard takes this number next; what was sent ahead of it is dropped."""

    session: int
    number: int


class OpenedHeader(Header, frozen=True):
    """OPENED: the shard takes this number next.

    `born`: a session began at the shard. If the writer did not begin it, the shard had taken it for
    lost, and its tags say so until they are published again. `not_journaled`: see `AckHeader`.
    """

    session: int
    number: int
    born: bool = False
    not_journaled: tuple[int, ...] = ()


class AckHeader(Header, frozen=True):
    """ACK: all batches up to `number` are in the journal.

    `refused`: (number, row, handle, code) of each sample that was not taken. `not_journaled`: numbers of the
    batches that are current but could not be stored.
    """

    session: int
    number: int
    refused: tuple[tuple[int, int, int, str], ...] = ()
    not_journaled: tuple[int, ...] = ()


class RefusedHeader(Header, frozen=True):
    """REFUSED: the link is not opened."""

    session: int
    code: str
    message: str


class FeedHeader(Header, frozen=True):
    """A feed frame carries what changed in a view in `(after, upto]` of the shard's positions.

    `kind` is 0. `beat`: an empty frame that says: nothing else, I live.
    """

    revision: int
    incarnation: int
    after: int
    upto: int
    received_ns: int
    beat: bool = False


_HEADERS: Final[dict[int, type[Header]]] = {
    Kind.TELL: ControlHeader,
    Kind.ASK: ControlHeader,
    Kind.REPLY: ReplyHeader,
    Kind.RECEIPT: ReceiptHeader,
    Kind.DROPPED: DroppedHeader,
    Kind.OPEN: OpenHeader,
    Kind.PUBLISH: PublishHeader,
    Kind.ALIVE: SessionHeader,
    Kind.GOODBYE: SessionHeader,
    Kind.OPENED: OpenedHeader,
    Kind.ACK: AckHeader,
    Kind.EXPECTED: ExpectedHeader,
    Kind.BEAT: SessionHeader,
    Kind.REOPEN: SessionHeader,
    Kind.REFUSED: RefusedHeader,
    0: FeedHeader,
}
_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Header]]] = {
    kind: msgspec.msgpack.Decoder(cls) for kind, cls in _HEADERS.items()
}
"""By the third byte of a header: behind the head of the list and the version stands the kind, if both are small."""


def pack_header(kind: Kind, *fields: object) -> bytes:
    """A header to its bytes; the fields in the order of its class."""
    return pack([VERSION, int(kind), *fields])


def pack_feed_header(revision: int, incarnation: int, after: int, upto: int, received_ns: int, *, beat: bool) -> bytes:
    """The header of a feed frame."""
    return pack([VERSION, 0, revision, incarnation, after, upto, received_ns, beat])


def read_header(data: bytes | memoryview, *, max_bytes: int = HEADER_LIMIT_BYTES) -> Any:
    """Bytes to the header of its kind: a subclass of `Header`.

    Raises:
        RemoteProtocolError: Not a header, too long, of another version, or of an unknown kind.
    """
    decoder = _DECODERS.get(data[2]) if 2 < len(data) <= max_bytes and data[1] == VERSION else None
    if decoder is None:
        return _read_slowly(data, max_bytes)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_slowly(data, max_bytes)


def _read_slowly(data: bytes | memoryview, max_bytes: int) -> Any:
    """What is no header as we would write it: tell what is wrong with it, if anything is."""
    value = unpack(data, max_bytes=max_bytes, max_depth=None)
    if type(value) is not list or len(value) < 2:
        msg = "a header is [version, kind, ...]"
        raise RemoteProtocolError(msg)
    if value[0] != VERSION:
        msg = f"the peer speaks version {value[0]!r:.40}, we speak {VERSION}"
        raise RemoteProtocolError(msg)
    cls = _HEADERS.get(value[1]) if type(value[1]) is int else None
    if cls is None:
        msg = f"no frame is of kind {value[1]!r:.40}"
        raise RemoteProtocolError(msg)
    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        msg = f"header of kind {value[1]}: {error}"
        raise RemoteProtocolError(msg) from error


def read_link_header(data: bytes | memoryview, *, max_bytes: int = HEADER_LIMIT_BYTES) -> Any:
    """As `read_header`, for the two sending lanes, where every header names a session.

    Raises:
        RemoteProtocolError: As `read_header`; or a feed header, which does not belong there.
    """
    header = read_header(data, max_bytes=max_bytes)
    if isinstance(header, FeedHeader):
        msg = "a feed header came on a sending lane"
        raise RemoteProtocolError(msg)
    return header


def canonical_globs(globs: Iterable[str]) -> tuple[str, ...]:
    """The globs of a view in the order that makes its topic: sorted, each once."""
    return tuple(sorted(set(globs)))


def view_topic(globs: Iterable[str]) -> bytes:
    """The topic of a view: blake2b-64 of its canonical text (the sorted globs, a line each)."""
    return hashlib.blake2b("\n".join(canonical_globs(globs)).encode(), digest_size=8).digest()
