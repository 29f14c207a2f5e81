"""The test vectors of docs/wire.md: what they say is what we write, and what we read."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from tagwerk.protocols.errors import RemoteProtocolError
from tagwerk.protocols.frames import (
    BELL_TOPIC,
    FeedHeader,
    Kind,
    pack_feed_header,
    pack_header,
    read_header,
    view_topic,
)
from tagwerk.protocols.message import decode_message, encode_message
from tagwerk.protocols.samples import Samples, ValueType, decode, encode, make
from tagwerk.runtime.durable import read_record
from tagwerk.runtime.journal_segments import encode_record

VECTORS = Path(__file__).parents[1] / "vectors"
DOCUMENT = Path(__file__).parents[2] / "docs" / "wire.md"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


SAMPLES, HEADERS, MESSAGES, WRITER = (load(f"{name}.json") for name in ("samples", "headers", "messages", "writer"))


def named(rows: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", rows, ids=[row["name"] for row in rows])


def batch_of(given: dict[str, Any]) -> Samples:
    kind = ValueType[given["kind"]]
    values = given["values"]
    if kind is ValueType.FLOAT:
        values = [float(value) for value in values]
    return make(kind, given["tags"], values, given["times"], given["quality"])


@named(SAMPLES["frames"])
def test_samples(vector: dict[str, Any]) -> None:
    assert encode([batch_of(given) for given in vector["batches"]]).hex() == vector["hex"]
    found = decode(bytes.fromhex(vector["hex"]))
    for batch, given in zip(found, vector["batches"], strict=True):
        assert (batch.kind.name, batch.tags.tolist(), batch.times.tolist(), batch.quality.tolist()) == (
            given["kind"], given["tags"], given["times"], given["quality"],
        )  # fmt: skip
        values = batch.values if batch.values is None or isinstance(batch.values, list) else batch.values.tolist()
        if values is not None and batch.kind is ValueType.FLOAT:
            assert [v if math.isfinite(v) else str(v) for v in values] == given["values"]
        else:
            assert values == given["values"]


@named(SAMPLES["malformed"])
def test_malformed_samples(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(bytes.fromhex(vector["hex"]))


@named(HEADERS["headers"])
def test_headers(vector: dict[str, Any]) -> None:
    header = read_header(bytes.fromhex(vector["hex"]))
    assert type(header).__name__ == vector["class"]
    assert json.loads(json.dumps(msgspec.structs.asdict(header))) == vector["fields"]
    fields = list(vector["fields"].values())
    if isinstance(header, FeedHeader):
        again = pack_feed_header(*fields[2:-1], beat=fields[-1])
    else:
        again = pack_header(Kind(header.kind), *fields[2:])
    assert read_header(again) == header
    if not vector["name"].endswith("_short"):
        assert again.hex() == vector["hex"]


@named(HEADERS["malformed"])
def test_malformed_headers(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        read_header(bytes.fromhex(vector["hex"]))


def test_topics() -> None:
    for vector in HEADERS["topics"]:
        assert view_topic(vector["globs"]).hex() == vector["hex"]
    assert BELL_TOPIC.hex() == HEADERS["bell"]


@named(MESSAGES["messages"])
def test_messages(vector: dict[str, Any]) -> None:
    message = decode_message(bytes.fromhex(vector["hex"]))
    assert type(message).__name__ == vector["name"]
    assert encode_message(message).hex() == vector["hex"]
    found = msgspec.to_builtins(message, builtin_types=(bytes,))[1:]
    assert json.loads(json.dumps(_hexed(found))) == vector["fields"]


def _hexed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_hexed(one) for one in value] if isinstance(value, (list, tuple)) else value


@named(MESSAGES["malformed"])
def test_malformed_messages(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(bytes.fromhex(vector["hex"]))


def test_the_journals_record() -> None:
    vector = WRITER["journal_record"]
    n, kind, revision, incarnation, writer, sequence, received_ns, frame = vector["fields"]
    body = bytes.fromhex(vector["body"])
    record = read_record(body)
    assert (record.n, record.kind, record.writer, record.sequence) == (n, kind, writer, sequence)
    assert record.frame.hex() == frame
    assert struct.unpack("<II", bytes.fromhex(vector["head"])) == (len(body), crc32(body))
    parts, _ = encode_record((n, kind, revision, incarnation, writer, sequence, received_ns), record.frame)
    assert b"".join(parts).hex() == vector["head"] + vector["body"]


def test_the_document_shows_the_worked_example() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace(" ", "").replace("\n", "")
    for step in WRITER["steps"]:
        for frame in step["frames"]:
            assert frame in text, step["what"]
    assert WRITER["journal_record"]["body"] in text
    assert HEADERS["bell"] in text


def test_the_document_lists_every_kind_with_its_number() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for kind in Kind:
        assert f"| {int(kind)} | `{kind.name}` |" in text
    for value_type in ValueType:
        assert f"| {int(value_type)} | `{value_type.name}` |" in text
