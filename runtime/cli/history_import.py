"""`tagwerk history import`: samples from elsewhere into history, each once, however often it is run."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from tagwerk.protocols.errors import ConfigError, ConfigErrors, Refused, RefusedCode, TagwerkError, Unavailable
from tagwerk.protocols.history import BeginImport, EndImport, ImportSamples, ImportTaken
from tagwerk.protocols.message import Done
from tagwerk.protocols.samples import ValueType
from tagwerk.runtime.cli import output, times
from tagwerk.runtime.cli.failure import NotFound
from tagwerk.runtime.cli.import_file import Block, Checker, Findings
from tagwerk.runtime.cli.import_formats import cells_of
from tagwerk.runtime.cli.options import examples
from tagwerk.runtime.cli.progress import Progress
from tagwerk.runtime.cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tagwerk.runtime.attach import Plant

app = typer.Typer(add_completion=False)

WINDOW_ROWS: Final = 1 << 20
"""Samples that are sorted by tag before they are sent: of a file in the order of time, few of each tag lie together."""

WINDOW_TEXT_BYTES: Final = 64 << 20
SEND_ROWS: Final = 20_000
SEND_TEXT_BYTES: Final = 8 << 20
PATIENCE_S: Final = 30.0
"""How long one message is sent again while the historian is away or takes another import."""

AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Checked:
    """A file in which nothing is wrong."""

    rows: int
    tags: int
    start_ns: int
    end_ns: int


@app.command(
    epilog=examples(
        "tagwerk history import mash.csv",
        "tagwerk history import day.parquet --dry-run",
        "tagwerk history mash.temperature --csv --home old > mash.csv; tagwerk history import mash.csv",
    ),
)
def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="FILE.csv: time,tag,value,unit,quality; or FILE.parquet.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong with the file.")] = False,
) -> None:
    """Bring samples from elsewhere into history. Current values and alarms do not change.

    A sample that history has already (the same tag, time, value and quality) is left out: after a failure, or with a
    longer file, run it again. Nothing is sent before the whole file was found right.

    Times need a zone, 2026-03-01T12:00:00Z; a value in another unit is converted. What is imported is marked.
    """
    session = session_of(context)
    if not file.is_file():
        raise ConfigError("there is no such file", file=str(file), expected="FILE.csv or FILE.parquet")
    with session.plant(PATIENCE_S) as plant:
        seen = _Seen.of(file)
        checked = _check(plant, file)
        if checked.rows:
            plant.query("historian/0", BeginImport(checked.start_ns, checked.end_ns), Done)
        added = known = 0
        if checked.rows and not dry_run:
            added, known = _send(plant, file, checked, seen, session.patience_s(PATIENCE_S))
    row = {
        "file": str(file), "samples": checked.rows, "tags": checked.tags, "added": added, "known": known,
        "from": times.rfc3339(checked.start_ns), "to": times.rfc3339(checked.end_ns),
    }  # fmt: skip
    if session.json:
        output.json_line(row)
    elif dry_run:
        output.line(f"{file}: nothing is wrong; {checked.rows:,} samples of {checked.tags:,} tags")
    else:
        output.line(f"{file}: {added:,} samples added, {known:,} were known, of {checked.tags:,} tags")


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a file looks from outside: it is read twice, and must not change between."""

    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> _Seen:
        found = path.stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def _blocks(plant: Plant, path: Path, findings: Findings) -> Iterator[Block]:
    checker = Checker(plant.definition, time.time_ns(), findings)
    collects = gc.isenabled()
    gc.disable()  # a row is a list for a moment, and none of them is in a cycle: looking for some takes half the time
    try:
        for cells in cells_of(path, findings):
            yield checker.block(cells)
    finally:
        if collects:
            gc.enable()


def _check(plant: Plant, path: Path) -> Checked:
    """Read all of a file.

    Raises:
        ConfigErrors: Something is wrong in it.
    """
    findings = Findings()
    rows, tags = 0, np.empty(0, np.uint32)
    start_ns, end_ns = times.END_OF_TIME_NS, 0
    with Progress("samples checked", to_file=False) as progress:
        for block in _blocks(plant, path, findings):
            if len(block):
                rows += len(block)
                tags = np.union1d(tags, block.tags)
                start_ns, end_ns = min(start_ns, int(block.times.min())), max(end_ns, int(block.times.max()))
            progress.show(rows, block.share)
    if findings.count:
        raise _wrong(path, findings)
    return Checked(rows, len(tags), start_ns if rows else 0, end_ns)


def _wrong(path: Path, findings: Findings) -> ConfigErrors:
    """What is wrong with a file, the first of it line by line."""
    told = [ConfigError(what, file=str(path), line=line) for line, what in sorted(findings.told)]
    more = findings.count - len(told)
    words = f"and {more:,} more; nothing was imported" if more else "nothing was imported"
    return ConfigErrors([*told, ConfigError(words, file=str(path))])


def _send(plant: Plant, path: Path, checked: Checked, seen: _Seen, patience_s: float) -> tuple[int, int]:
    added = known = 0
    try:
        with Progress("samples imported", to_file=False) as progress:
            for message, share in _messages(_blocks(plant, path, Findings())):
                if _Seen.of(path) != seen:
                    raise NotFound(f"{path} was changed while it was read; import it again")
                taken = _sent(plant, message, patience_s)
                added, known = added + taken.added, known + taken.known
                progress.show(added + known, share)
    except (TagwerkError, KeyboardInterrupt):
        if added or known:
            output.note(f"{added:,} of {checked.rows:,} samples were added; run it again, none is added twice")
        raise
    plant.ask("historian/0", EndImport(plant.user, plant.host, str(path), added, known))
    return added, known


def _sent(plant: Plant, message: ImportSamples, patience_s: float) -> ImportTaken:
    """Send one message until it is committed: it may be sent again, see `ImportSamples`.

    Raises:
        Refused: A clear no.
        Unavailable: The historian does not come back.
    """
    until_s = time.monotonic() + patience_s
    while True:
        try:
            return plant.query("historian/0", message, ImportTaken)
        except Unavailable:
            if time.monotonic() >= until_s:
                raise
        except Refused as error:
            if error.code != RefusedCode.CONFLICT or time.monotonic() >= until_s:
                raise
        time.sleep(AGAIN_S)


def _messages(blocks: Iterator[Block]) -> Iterator[tuple[ImportSamples, float]]:
    """What is sent, and how much of the file it ends."""
    held: list[Block] = []
    rows = size = 0
    share = 0.0
    for block in blocks:
        held.append(block)
        share = block.share
        rows += len(block)
        size += sum(map(len, block.texts))
        if rows >= WINDOW_ROWS or size >= WINDOW_TEXT_BYTES:
            yield from ((message, share) for message in _sorted_messages(held))
            held, rows, size = [], 0, 0
    yield from ((message, share) for message in _sorted_messages(held))


def _sorted_messages(blocks: Sequence[Block]) -> Iterator[ImportSamples]:
    if not blocks:
        return
    texts: list[str] = []
    bits: list[NDArray[np.int64]] = []
    for block in blocks:
        bits.append(np.where(block.kinds == ValueType.STR, block.bits + len(texts), block.bits))
        texts += block.texts
    columns: list[NDArray[Any]] = [
        np.concatenate([block.tags for block in blocks]),
        np.concatenate([block.times for block in blocks]),
        np.concatenate(bits),
        np.concatenate([block.quality for block in blocks]),
        np.concatenate([block.kinds for block in blocks]),
    ]
    order = np.lexsort((columns[1], columns[0]))  # by tag, then time; equal times stay as they are
    tags, moments, values, codes, kinds = (column[order] for column in columns)
    start = 0
    for end in _ends(values, kinds == ValueType.STR, texts):
        part = slice(start, end)
        mine, places = np.flatnonzero(kinds[part] == ValueType.STR), values[part].copy()
        sent = tuple(texts[place] for place in places[mine].tolist())
        places[mine] = np.arange(len(mine))
        yield ImportSamples(
            tags[part].astype("<u4").tobytes(), moments[part].tobytes(), places.tobytes(),
            codes[part].astype("<u4").tobytes(), kinds[part].tobytes(), sent,
        )  # fmt: skip
        start = end


def _ends(values: NDArray[np.int64], texts_at: NDArray[np.bool_], texts: list[str]) -> list[int]:
    """Where messages end, so that each has few enough samples, and text."""
    ends: list[int] = []
    start, count = 0, len(values)
    sizes = np.zeros(count, np.int64)
    sizes[texts_at] = [len(texts[place]) for place in values[texts_at].tolist()]
    total = np.cumsum(sizes)
    while start < count:
        before = int(total[start - 1]) if start else 0
        fits = int(np.searchsorted(total, before + SEND_TEXT_BYTES, side="right"))
        start = min(start + SEND_ROWS, max(start + 1, fits), count)
        ends.append(start)
    return ends
