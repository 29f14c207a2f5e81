"""Bytes that no honest peer sends: seeded, so that a failure can be played again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgpack
import msgspec

from tagwerk.protocols import alarms, history, machines, plantwide, tags
from tagwerk.protocols.codec import VERSION
from tagwerk.protocols.frames import Kind
from tagwerk.protocols.message import Message, encode_message

INTS = (0, 1, -1, 2, 7, 255, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS = (0.0, -0.0, 0.5, 1e308, 5e-324, -1.0, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "\0", "*", "[a-", "../../etc/passwd", "'; DROP TABLE tag; --", "x" * 300, "\U0001f600" * 50, "x" * 70_000)
REQUESTS: tuple[type[Message], ...] = tuple(
    found
    for module in (alarms, history, machines, plantwide, tags)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Message) and (found.__doc__ or "").startswith(("To ", "From "))
)
"""What actors are asked: each says so in its first line."""


class Hostile:
    """Makes them.

    Args:
        seed: What it makes, in order, follows from it.
        names: Names that mean something to the receiver, so that not every message ends at its first check.
    """

    def __init__(self, seed: int, names: Sequence[str] = ()) -> None:
        self.rng = random.Random(seed)
        self._texts = (*TEXTS, *names, *names, *names)

    def noise(self, limit: int = 200) -> bytes:
        """Bytes without any meaning."""
        return self.rng.randbytes(self.rng.randrange(limit))

    def value(self, depth: int = 0) -> Any:
        """Something that msgpack can say."""
        rng = self.rng
        pick = rng.randrange(8 if depth < 4 else 6)
        if pick < 5:
            return rng.choice((None, True, rng.choice(INTS), rng.choice(FLOATS), rng.choice(self._texts)))
        if pick == 5:
            return self.noise()
        if pick == 6:
            return [self.value(depth + 1) for _ in range(rng.randrange(5))]
        return {str(n): self.value(depth + 1) for n in range(rng.randrange(3))}

    def deep(self) -> bytes:
        """Lists in lists."""
        return b"\x91" * self.rng.choice((17, 1_000, 100_000)) + b"\x00"

    def promise(self) -> bytes:
        """A few bytes that announce gigabytes."""
        return self.rng.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")) + b"\xff" * 4

    def mutated(self, frame: bytes) -> bytes:
        """Some bytes of it are others, or missing, or twice there."""
        rng = self.rng
        data = bytearray(frame)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data) + 1)
            how = rng.randrange(4)
            if how == 0:
                data[at : at + 1] = rng.randbytes(1)
            elif how == 1:
                del data[at : at + rng.randrange(1, 9)]
            elif how == 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                data[at:at] = data[: rng.randrange(20)]
        return bytes(data)

    def junk(self) -> bytes:
        """One part of a message that means nothing."""
        pick = self.rng.randrange(5)
        if pick == 0:
            return self.noise()
        if pick == 1:
            return self.deep()
        if pick == 2:
            return self.promise()
        if pick == 3:
            return self.noise(60_000)
        return packed(self.value())

    def message(self) -> bytes:
        """The body of a message whose types are right, and whose values are extreme."""
        return encode_message(self._struct(self.rng.choice(REQUESTS)))

    def _struct(self, cls: Any) -> Any:
        kind = msgspec.inspect.type_info(cls)
        assert isinstance(kind, msgspec.inspect.StructType)
        fields = kind.fields
        return cls(**{field.name: self._of(field.type) for field in fields})

    def _of(self, kind: Any) -> Any:
        rng, inspect = self.rng, msgspec.inspect
        match kind:
            case inspect.BoolType():
                return rng.random() < 0.5
            case inspect.IntType():
                return rng.choice((*INTS, rng.randrange(100), rng.randrange(100)))
            case inspect.FloatType():
                return rng.choice(FLOATS)
            case inspect.StrType():
                return rng.choice(self._texts)
            case inspect.BytesType():
                return self.noise(20)
            case inspect.NoneType():
                return None
            case inspect.UnionType():
                return self._of(rng.choice(kind.types))
            case inspect.VarTupleType():
                count = rng.choice((0, 1, 2, 5, 2_000)) if isinstance(kind.item_type, inspect.IntType) else 2
                return tuple(self._of(kind.item_type) for _ in range(count))
            case inspect.TupleType():
                return tuple(self._of(item) for item in kind.item_types)
            case inspect.StructType():
                return self._struct(kind.cls)
            case _:
                raise AssertionError(f"no value for {kind}")

    def control_header(self) -> bytes:
        """A header of the control lane; mostly one that lets the body be looked at."""
        rng = self.rng
        if rng.random() < 0.9:
            token = rng.randrange(3)
            session = rng.randrange(1, 2**62)  # a number that is out of order would end a session that goes on
            return packed([VERSION, int(Kind.ASK if token else Kind.TELL), session, 1, 0, 0, "fuzz", token])
        fields = [self.value(3) for _ in range(rng.randrange(9))]
        return packed([VERSION, rng.choice((*map(int, Kind), 0, 99)), *fields])


def packed(value: Any) -> bytes:
    """Msgpack, without our codec's opinion."""
    data = msgpack.packb(value, use_bin_type=True)
    assert isinstance(data, bytes)
    return data
