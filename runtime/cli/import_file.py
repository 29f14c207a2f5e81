"""A file of samples, block by block, as columns. All that is wrong with it is found here, before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tagwerk.protocols import quality as q
from tagwerk.protocols.errors import Refused
from tagwerk.protocols.samples import TYPE_NAMES, ValueType, text_fits
from tagwerk.runtime.cli import times, values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tagwerk.protocols.tags import TagDef

FINDINGS_MOST: Final = 20
"""Findings that are told; the others are counted."""

_STAMP: Final = re.compile(r"(?:19[7-9]\d|2[01]\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_LOCAL: Final = re.compile(r"[-\d]+(?:[T ][:.\d]+)?\s*", re.ASCII)
_NUMBERED: Final = re.compile(r"(Good|Uncertain|Bad)\(0x([0-9A-F]{8})\)")
_DIGITS: Final = frozenset("0123456789+-")
_DECIMAL: Final = _DIGITS | frozenset(".eE")
_INFINITE: Final = {"inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf")}
_BOOLS: Final = {"true": 1, "false": 0}


@dataclass(slots=True)
class Findings:
    """What is wrong with a file: the first of it in words, and how much."""

    told: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    count: int = 0

    def add(self, line: int, what: str) -> None:
        """One more, on a line."""
        self.count += 1
        if len(self.told) < FINDINGS_MOST:
            self.told.append((line, what))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows as they stand in a file, in columns.

    Args:
        lines: The line, or row, of each.
        times: int64 (n,), ns since 1970, where the file holds times; else texts.
        tags: Names.
        values: Texts, where None or "" is none; or a column of numbers and where there is one.
        units: Texts, "" where none is said; None: no such column.
        quality: Names; None: no such column.
        share: How much of the file has been read.
    """

    lines: Sequence[int]
    times: Any
    tags: list[str]
    values: list[Any]
    units: list[str] | None
    quality: list[str] | None
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that are right, as columns for `ImportSamples`, and how much of the file was read so far."""

    tags: NDArray[np.uint32]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    quality: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    texts: list[str]
    share: float

    def __len__(self) -> int:
        return len(self.tags)


class Checker:
    """Checks rows against the plant's tags.

    Args:
        tag_of: Gives a tag's definition; raises Refused for one that is unknown.
        now_ns: Later times are wrong.
        findings: Is told what is wrong.
    """

    def __init__(self, tag_of: Callable[[str], TagDef], now_ns: int, findings: Findings) -> None:
        self._tag_of = tag_of
        self._now_ns = now_ns
        self._findings = findings
        self._known: dict[str, TagDef | str] = {}
        self._codes: dict[str, int | None] = {name: code for code, name in q.NAMES.items()}

    def block(self, cells: Cells) -> Block:
        """Rows as columns; those in which something is wrong are left out, and told."""
        count = len(cells.tags)
        right = np.ones(count, np.bool_)
        moments = self._times(cells, right)
        codes = self._quality(cells, right)
        bits, handles = np.zeros(count, np.int64), np.zeros(count, np.uint32)
        kinds = np.zeros(count, np.uint8)
        texts: list[str] = []
        for name, rows in _groups(cells.tags):
            tag = self._tag(name)
            if isinstance(tag, str):
                self._wrong(cells, rows, right, tag)
                continue
            handles[rows] = tag.handle
            self._values(tag, cells, rows, codes, bits, kinds, texts, right)
        return Block(handles[right], moments[right], bits[right], codes[right], kinds[right], texts, cells.share)

    def _wrong(self, cells: Cells, rows: NDArray[np.int64], right: NDArray[np.bool_], what: str) -> None:
        right[rows] = False
        for row in rows[:FINDINGS_MOST].tolist():
            self._findings.add(cells.lines[row], what)
        self._findings.count += max(0, len(rows) - FINDINGS_MOST)

    def _tag(self, name: str) -> TagDef | str:
        found = self._known.get(name)
        if found is None:
            try:
                found = self._tag_of(name)
                if not found.log:
                    found = f"{name} has log = false: history keeps nothing of it"
            except Refused as error:
                found = error.message
            self._known[name] = found
        return found

    # --- times -------------------------------------------------------------------------------------------------------

    def _times(self, cells: Cells, right: NDArray[np.bool_]) -> NDArray[np.int64]:
        moments: NDArray[np.int64]
        if isinstance(cells.times, np.ndarray):
            moments = cells.times
        elif all(map(_STAMP.fullmatch, cells.times)):
            try:
                moments = np.array([text[:-1] for text in cells.times], "M8[ns]").astype(np.int64)
            except ValueError:  # the 30th of February
                moments = self._times_one_by_one(cells, right)
        else:
            moments = self._times_one_by_one(cells, right)
        late = np.flatnonzero(right & (moments > self._now_ns))
        if len(late):
            self._wrong(cells, late, right, "the time is in the future")
        early = np.flatnonzero(right & (moments < 0))
        if len(early):
            self._wrong(cells, early, right, "there is no time, or it is before 1970")
        return moments

    def _times_one_by_one(self, cells: Cells, right: NDArray[np.bool_]) -> NDArray[np.int64]:
        moments = np.zeros(len(right), np.int64)
        for row, text in enumerate(cells.times):
            try:
                moments[row] = _moment_ns(text)
            except ValueError as error:
                self._wrong(cells, np.array([row]), right, str(error))
        return moments

    # --- quality -----------------------------------------------------------------------------------------------------

    def _quality(self, cells: Cells, right: NDArray[np.bool_]) -> NDArray[np.uint32]:
        count = len(right)
        if cells.quality is None:
            return np.zeros(count, np.uint32)
        found = np.zeros(count, np.uint32)
        for name, rows in _groups(cells.quality):
            code = self._code(name)
            if code is None:
                self._wrong(cells, rows, right, f"{name[:60]!r} is no quality; expected Good, Bad, ... as exported")
            else:
                found[rows] = code
        return found

    def _code(self, name: str) -> int | None:
        if name not in self._codes:
            match = _NUMBERED.fullmatch(name)
            self._codes[name] = int(match[2], 16) & ~q.BACKFILLED if match else 0 if not name else None
        return self._codes[name]

    # --- values ------------------------------------------------------------------------------------------------------

    def _values(
        self, tag: TagDef, cells: Cells, rows: NDArray[np.int64], codes: NDArray[np.uint32], bits: NDArray[np.int64],
        kinds: NDArray[np.uint8], texts: list[str], right: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        column = cells.values
        given = column if len(rows) == len(column) else [column[row] for row in rows.tolist()]
        kind = TYPE_NAMES[tag.type]
        if kind is ValueType.STR:  # an empty text that is Good is a value
            there = np.array([text is not None and (text != "" or not code) for text, code in
                              zip(given, codes[rows].tolist(), strict=True)], np.bool_)  # fmt: skip
        else:
            there = np.ones(len(given), np.bool_)
            if None in given or "" in given:
                there = np.array([text is not None and text != "" for text in given], np.bool_)
        self._check_gaps(cells, rows[~there], right)
        kinds[rows] = np.where(there, np.uint8(kind), np.uint8(ValueType.QUALITY))
        rows = rows[there]
        if not there.all():
            given = [cell for cell, known in zip(given, there.tolist(), strict=True) if known]
        if kind is ValueType.STR:
            given = [text if isinstance(text, str) else str(text) for text in given]
            bits[rows] = np.arange(len(texts), len(texts) + len(given))
            texts += given
            long = [row for row, text in zip(rows.tolist(), given, strict=True) if not text_fits(text)]
            if long:
                self._wrong(cells, np.array(long), right, f"the text for {tag.name} is too long")
        else:
            bits[rows] = self._numbers(tag, cells, rows, given, right)

    def _check_gaps(self, cells: Cells, rows: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        if cells.quality is None:
            unsaid = rows
        else:
            named = cells.quality
            unsaid = np.array([row for row in rows.tolist() if not named[row]], np.int64)
        if len(unsaid):
            self._wrong(cells, unsaid, right, "there is no value; a gap says so by its quality, Bad for example")

    def _numbers(
        self, tag: TagDef, cells: Cells, rows: NDArray[np.int64], given: list[Any], right: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        kind = TYPE_NAMES[tag.type]
        if not self._has_other_unit(tag, cells, rows):
            found = _fast(kind, given)
            if found is not None:
                return found
        bits = np.zeros(len(rows), np.int64)
        for place, (row, cell) in enumerate(zip(rows.tolist(), given, strict=True)):
            try:
                unit = cells.units[row] if cells.units is not None else ""
                bits[place] = _bits(kind, _parsed(tag, cell, unit))
            except Refused as error:
                self._wrong(cells, np.array([row]), right, error.message)
        return bits

    @staticmethod
    def _has_other_unit(tag: TagDef, cells: Cells, rows: NDArray[np.int64]) -> bool:
        units = cells.units
        if units is None:
            return False
        mine = units if len(rows) == len(units) else [units[row] for row in rows.tolist()]
        return not {*mine} <= {"", tag.unit}


def _groups(names: list[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """The different names, and the rows of each."""
    if names and names.count(names[0]) == len(names):
        return [(names[0], np.arange(len(names)))]
    numbers: dict[str, int] = {}
    which = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    order = which.argsort(kind="stable")
    ends = np.searchsorted(which[order], np.arange(1, len(numbers) + 1))
    return list(zip(numbers, np.split(order, ends[:-1]), strict=True)) if numbers else []


def _moment_ns(text: str) -> int:
    import typer

    if text.startswith("now") or not text:
        raise ValueError(f"{text[:40]!r} is no time; expected RFC 3339, 2026-03-01T12:00:00Z")
    if _LOCAL.fullmatch(text):
        raise ValueError(f"the time {text[:40]!r} has no zone; expected 2026-03-01T12:00:00Z, or +01:00 at the end")
    try:
        return times.moment_ns(text, 0)
    except typer.BadParameter as error:
        raise ValueError(f"{text[:40]!r} is no time; expected RFC 3339, 2026-03-01T12:00:00Z") from error


def _fast(kind: ValueType, given: list[Any]) -> NDArray[np.int64] | None:
    """The bits of a column that is plain; None: look at the values one by one."""
    if not given:
        return np.empty(0, np.int64)
    if not isinstance(given[0], str):
        return _fast_numbers(kind, np.array(given))
    if kind is ValueType.BOOL:
        found = [_BOOLS.get(text, -1) for text in given]
        return None if -1 in found else np.array(found, np.int64)
    if not set("".join(given)) <= (_DECIMAL if kind is ValueType.FLOAT else _DIGITS):
        return None
    try:
        if kind is ValueType.INT:
            return np.array(list(map(int, given)), np.int64)
        numbers = np.array(list(map(float, given)))
    except (ValueError, OverflowError):
        return None
    return numbers.view(np.int64) if bool(np.isfinite(numbers).all()) else None


def _fast_numbers(kind: ValueType, column: NDArray[Any]) -> NDArray[np.int64] | None:
    if column.dtype.kind not in "biuf" or (column.dtype.kind == "f" and bool(np.isnan(column).any())):
        return None
    if kind is ValueType.FLOAT:
        return column.astype(np.float64).view(np.int64)
    with np.errstate(invalid="ignore"):  # what does not fit is seen in the next line
        whole = column.astype(np.int64)
    fits = bool((whole == column).all()) and (kind is ValueType.INT or bool(((whole == 0) | (whole == 1)).all()))
    return whole if fits else None


def _parsed(tag: TagDef, cell: Any, unit: str) -> Any:
    if not isinstance(cell, str):
        cell = repr(cell).lower() if isinstance(cell, bool) else repr(cell)
    if tag.type == "float" and cell.lower() in _INFINITE:
        return _INFINITE[cell.lower()]
    return values.parsed(cell, tag.type, tag.unit, tag.name, unit or None)


def _bits(kind: ValueType, value: Any) -> int:
    return int(np.float64(value).view(np.int64)) if kind is ValueType.FLOAT else int(value)
