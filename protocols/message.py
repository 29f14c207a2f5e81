"""Messages: typed, frozen, an array on the wire that grows only at its end, with defaults."""

from __future__ import annotations

from typing import Any

import msgspec

from tagwerk.protocols.codec import MAX_BODY_BYTES, MAX_ITEMS, pack, unpack
from tagwerk.protocols.errors import RemoteProtocolError

_BY_NAME: dict[str, type[Message]] = {}
_DECODERS: dict[bytes, msgspec.msgpack.Decoder[Message]] = {}
"""By a message's name as it stands on the wire."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A part of a message: fields in order, no name on the wire."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What one actor says to another. On the wire: `[name, field, ...]`.

    Requests are imperative (`WriteTag`), events past tense (`TagWritten`), a refusal is the reply `Refusal`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # msgspec calls this twice a class: once for the plain class, once for the finished struct.
        _BY_NAME[cls.__name__] = cls


class Refusal(Message, frozen=True):
    """The reply that says no. Nothing was changed.

    `code` is one of `RefusedCode`.
    """

    code: str
    message: str
    tag: str = ""


class Done(Message, frozen=True):
    """The reply that says yes and nothing more."""


def encode_message(message: Message) -> bytes:
    """A message to its bytes."""
    return pack(message)


def decode_message(data: bytes | memoryview, *, max_bytes: int = MAX_BODY_BYTES) -> Message:
    """Bytes to a checked message.

    Raises:
        RemoteProtocolError: Not a message that we know, or its fields are of wrong types.
    """
    # In one step, if it begins as messages do: the head of a short list, the head of a short text, the name. No item
    # is shorter than a byte, so there are not too many; what is wrong is told below.
    if 2 < len(data) <= min(max_bytes, MAX_ITEMS) and data[0] & 0xF0 == 0x90 and data[1] & 0xE0 == 0xA0:
        decoder = _decoder(bytes(data[2 : 2 + (data[1] & 0x1F)]))
        if decoder is not None:
            try:
                return decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return _decode_slowly(data, max_bytes)
    return _decode_slowly(data, max_bytes)


def _decode_slowly(data: bytes | memoryview, max_bytes: int) -> Message:
    value = unpack(data, max_bytes=max_bytes)
    if type(value) is not list or not value or type(value[0]) is not str:
        msg = "a message is [name, field, ...]"
        raise RemoteProtocolError(msg)
    cls = _BY_NAME.get(value[0])
    if cls is None:
        msg = f"no message is named {value[0][:60]!r}"
        raise RemoteProtocolError(msg)
    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        msg = f"{value[0]}: {error}"
        raise RemoteProtocolError(msg) from error


def make_decoders() -> None:
    """Make the decoders of all messages known so far, instead of each at its message's first arrival."""
    for name in _BY_NAME:
        _decoder(name.encode())


def _decoder(name: bytes) -> msgspec.msgpack.Decoder[Message] | None:
    decoder = _DECODERS.get(name)
    if decoder is None:
        cls = _BY_NAME.get(name.decode(errors="replace"))
        if cls is None:
            return None
        decoder = _DECODERS[name] = msgspec.msgpack.Decoder(cls)
    return decoder
