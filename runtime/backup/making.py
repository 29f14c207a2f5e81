"""Making a backup, of a plant that runs or of one that is down."""

from __future__ import annotations

import importlib
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

import msgspec

from tagwerk.protocols.errors import ConfigError, LocalProtocolError, Unavailable
from tagwerk.runtime.backup import plan
from tagwerk.runtime.backup.copying import AT_REST_S, Seen, at_rest, copy_item
from tagwerk.runtime.backup.holds import LetGo
from tagwerk.runtime.backup.manifest import (
    DATA,
    FILE,
    FORM,
    UNFINISHED,
    Entry,
    Manifest,
    Reach,
    digest_of,
    mode_of,
    refuse_small_disk,
    save,
    sync_tree,
)
from tagwerk.runtime.home import file_form
from tagwerk.runtime.journal_files import write_whole
from tagwerk.runtime.journal_recovery import Found, recover

if TYPE_CHECKING:
    from tagwerk.runtime.backup.holds import Holds
    from tagwerk.runtime.backup.plan import Item
    from tagwerk.runtime.home import Home

ATTEMPTS: Final = 3
"""So often all is copied again because somebody did not hold still."""

EARLY_BYTES: Final = 1 << 20
"""A store that is at rest and larger is copied before anybody is asked to hold still, and not again if it stays so."""

TIDY: Final = MappingProxyType({"historian": "tagwerk.actors.historian.copied:tidy"})
"""By actor kind: what makes its copied directory one of a single moment, by dotted name."""

_NEWS: Final = "This is no backup yet: whoever makes it is at work, or was stopped.\n"
_BEGUN: Final = f"{UNFINISHED}.tmp"
_SPARE_BYTES: Final = 16 << 20


class Progress:
    """Told how far it is; does nothing by itself."""

    def begin(self, what: str, total_bytes: int) -> None:
        """A part of the work begins."""

    def more(self, count: int) -> None:
        """So many bytes of it more are done."""


@final
class Backup:
    """Makes one backup.

    Args:
        home: The plant's home.
        target: Where it goes; made if it is not there.
        holds: Keeps the plant still.
        online: Whether the plant runs.
        progress: Told how far it is.
    """

    def __init__(self, home: Home, target: Path, holds: Holds, *, online: bool, progress: Progress) -> None:
        self._home = home
        self._target = target
        self._data = target / DATA
        self._holds = holds
        self._online = online
        self._progress = progress
        self._rest_s = AT_REST_S if online else 0.0
        self._early: dict[Path, Seen] = {}
        self._same: set[Path] = set()
        self._late: set[Path] = set()

    def make(self) -> Manifest:
        """Make it; nothing of it is left if that does not succeed.

        Raises:
            ConfigError: The target is no place for it, or there is nothing to be backed up.
            Unavailable: The plant does not answer, does not hold still, or was started meanwhile.
            Refused: Another backup is being made.
            OSError: Something cannot be read or written.
        """
        made_here = not self._target.exists()
        self._check_target(made_here)
        try:
            self._open_target()
            self._copy_early()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._copy_all()
                    break
                except LetGo as error:
                    if attempt == ATTEMPTS:
                        raise Unavailable(f"the plant did not hold still in {ATTEMPTS} attempts: {error}") from error
            return self._finish()
        except BaseException:
            self._clean_up(made_here=made_here)
            raise

    # --- the target --------------------------------------------------------------------------------------------------

    def _check_target(self, made_here: bool) -> None:
        """Make sure that there is something to be copied, and a place for it: nothing, or an unfinished backup."""
        data = self._home.data
        if not data.is_dir() or not any(data.iterdir()):
            expected = "the home of a plant that was up before"
            raise ConfigError("there is nothing to be backed up", file=str(data), expected=expected)
        target = self._target.absolute().resolve()
        places = [data, *(path for path in data.iterdir() if path.is_dir())]  # they may be links
        if any(target.is_relative_to(place.resolve()) for place in places):
            expected = "a directory outside of the plant's data, best on another disk"
            raise ConfigError("a backup cannot be a part of what it is of", file=str(target), expected=expected)
        # Who died before anything was begun has left no more than that.
        names = [] if made_here else sorted({entry.name for entry in self._target.iterdir()} - {_BEGUN})
        if FILE in names or (names and UNFINISHED not in names):
            what = "a backup already" if FILE in names else names[0]
            raise ConfigError(f"the directory holds {what}", file=str(self._target), expected="an empty directory")

    def _open_target(self) -> None:
        self._target.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._target.chmod(0o700)
        self._clean_up(made_here=False)  # of one that was not finished
        refuse_small_disk(self._target, _SPARE_BYTES + sum(_size(item.source) for item in self._items()))
        write_whole(self._target / UNFINISHED, _NEWS.encode())
        self._data.mkdir(mode=0o700)

    def _clean_up(self, *, made_here: bool) -> None:
        (self._target / FILE).unlink(missing_ok=True)
        if self._data.exists():
            shutil.rmtree(self._data)
        for name in (f"{FILE}.tmp", UNFINISHED, _BEGUN):
            (self._target / name).unlink(missing_ok=True)
        if made_here:
            with suppress(OSError):
                self._target.rmdir()

    # --- copying -----------------------------------------------------------------------------------------------------

    def _items(self) -> list[Item]:
        """All files as they are now; when it is copied, each directory is looked at again."""
        data = self._home.data
        return [item for directory in plan.directories(data) for item in plan.items(data, directory)]

    def _copy_early(self) -> None:
        """Copy what is large and at rest while nobody has to hold still: the past days of history, as a rule."""
        large = [item for item in self._items() if item.is_store and _size(item.source) >= EARLY_BYTES]
        resting = [item for item in large if at_rest(item.source, self._rest_s) is not None]
        self._progress.begin("what is at rest", sum(_size(item.source) for item in resting))
        for item in resting:
            seen = self._copy(item, self._progress.more)
            if seen is not None:
                self._early[item.path] = seen

    def _copy_all(self) -> None:
        self._late.clear()
        self._same.clear()
        started = _incarnations(self._home.data)
        try:
            self._holds.take()
            self._progress.begin("the plant", sum(_size(item.source) for item in self._items()))
            for directory in plan.directories(self._home.data):
                for item in plan.items(self._home.data, directory):
                    self._copy_late(item)
                self._note_consumers(directory)
            self._holds.prove()
            if _incarnations(self._home.data) != started:
                raise LetGo("an actor was started meanwhile")
        finally:
            self._holds.release()

    def _copy_late(self, item: Item) -> None:
        seen = self._early.get(item.path)
        if seen is not None and at_rest(item.source, self._rest_s) == seen:
            self._progress.more(seen.bytes)
            self._same.add(self._data / item.path)
            return
        self._copy(item, self._step)
        self._late.add(self._data / item.path)

    def _copy(self, item: Item, step: Callable[[int], None]) -> Seen | None:
        target = self._data / item.path
        folder = self._data
        for part in item.path.parts[:-1]:  # each private, which `parents=True` would not see to
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            return copy_item(item, target, step, self._rest_s)
        except FileNotFoundError:  # a day that was dropped, a file that was replaced: nobody misses it, or `TIDY` tells
            target.unlink(missing_ok=True)
            return None

    def _step(self, count: int) -> None:
        self._progress.more(count)
        self._holds.renew()

    def _note_consumers(self, directory: str) -> None:
        """Write who reads a journal, without their places: those stand in their own copies, and are older."""
        source = self._home.data / directory / plan.JOURNAL / plan.CONSUMERS
        if directory and source.exists():
            names = msgspec.json.decode(source.read_bytes(), type=dict[str, object])
            target = self._data / directory / plan.JOURNAL / plan.CONSUMERS
            write_whole(target, msgspec.json.encode(dict.fromkeys(names)))
            self._late.add(target)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> Manifest:
        for path in _files(self._data):  # copied early or in an earlier attempt, and gone from the plant since
            if path not in self._same and path not in self._late:
                path.unlink()
        for path in sorted(self._data.iterdir()):
            hook = TIDY.get(plan.kind_of(path.name))
            if hook is not None and path.is_dir():
                module, _, name = hook.partition(":")
                getattr(importlib.import_module(module), name)(path, self._late)
        # As at a start after a power cut: what of the last record was not there yet is cut off.
        journals = {path.parent.name: recover(path) for path in sorted(self._data.glob(f"*/{plan.JOURNAL}"))}
        self._refuse_readers_ahead(journals)
        manifest = self._manifest(journals)
        sync_tree(self._target)
        save(self._target, manifest)
        (self._target / UNFINISHED).unlink()
        sync_tree(self._target)
        return manifest

    def _manifest(self, journals: dict[str, Found]) -> Manifest:
        import tagwerk

        files = _files(self._data)
        self._progress.begin("check sums", sum(map(_size, files)))
        entries: list[Entry] = []
        for path in files:
            digest = digest_of(path)
            source = self._home.data / path.relative_to(self._data)
            mode = mode_of(source) if source.exists() else "600"
            entries.append(Entry(path.relative_to(self._data).as_posix(), _size(path), digest, mode))
            self._progress.more(_size(path))
        folders = sorted(path.relative_to(self._data).as_posix() for path in self._data.rglob("*") if path.is_dir())
        made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return Manifest(
            FORM, tagwerk.__version__, made, socket.gethostname(), str(self._home.root), self._online, tuple(folders),
            tuple(entries), tuple(_reach(name, found) for name, found in journals.items()),
        )  # fmt: skip

    def _refuse_readers_ahead(self, journals: dict[str, Found]) -> None:
        """Make sure that no reader in the copy is ahead of the journal in the copy: it would miss what comes there."""
        for path in sorted(self._data.glob("*/*.db")):
            for shard, journal, incarnation, n in _places(path):
                found = journals.get(file_form(shard))
                if found is None or str(found.identity.journal_id) != journal or not found.segments:
                    continue
                last = found.segments[-1]
                if incarnation == last.incarnation and n > last.last_n:
                    message = f"{path.name} has {shard} up to {n}, its copied journal ends at {last.last_n}"
                    raise LocalProtocolError(message)


def _places(path: Path) -> list[tuple[str, str, int, int]]:
    """Give the places in journals that a store holds: (shard, journal, incarnation, n)."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as store:
        columns = {name for _, name, *_ in store.execute("PRAGMA table_info(positions)")}
        if not {"shard", "journal", "incarnation", "n"} <= columns:
            return []
        return store.execute("SELECT shard, journal, incarnation, n FROM positions").fetchall()


def _incarnations(data: Path) -> dict[str, str]:
    """Give the number of each actor's last start, as it is on the disk: it is there before the actor does anything."""
    return {path.parent.name: path.read_text(errors="replace") for path in sorted(data.glob(f"*/{plan.INCARNATION}"))}


def _reach(shard: str, found: Found) -> Reach:
    first = found.segments[0].first_n if found.segments else found.next_n
    return Reach(shard.replace("-", "/", 1), f"{found.identity.journal_id:016x}", first, found.next_n - 1)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
