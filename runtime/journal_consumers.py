"""Where each durable consumer of a journal is: nothing behind which one still waits is thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

import msgspec

from tagwerk.runtime.journal_files import set_aside, write_whole
from tagwerk.runtime.journal_segments import Position

FILE: Final = "consumers.json"


@final
class Consumers:
    """The registered consumers and their synced places, kept in a small file.

    A place in the file may be older than the consumer's own: it only holds back truncation.

    Args:
        directory: The journal's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._places: dict[str, Position | None] = {}
        self._changed = False
        self._unwritten = False
        self.lost = False

    def load(self) -> Path | None:
        """Read the file.

        Returns:
            None, or the name under which a damaged file was set aside. Then `lost` is set: who waits is not known, and
            nothing may be thrown away until everybody has registered again and the actor has been started anew.
        """
        try:
            self._places = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Position | None])
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            self.lost = True
            aside = set_aside(self._path)
            self._path.unlink()
            return aside
        return None

    def places(self) -> dict[str, Position | None]:
        """Give each consumer's synced place, None for one that has consumed nothing yet."""
        return dict(self._places)

    def register(self, consumer: str) -> None:
        """Add a consumer, durably; one that is known keeps its place."""
        self._unwritten |= consumer not in self._places
        self._places.setdefault(consumer, None)
        if self._unwritten:  # also from a time when the disk was full
            self._write()

    def move(self, consumer: str, position: Position) -> None:
        """Set a consumer's place, in memory until `save`."""
        self._places[consumer] = position
        self._changed = True

    def forget(self, consumer: str) -> None:
        """Remove a consumer, durably."""
        if self._places.pop(consumer, self) is not self:
            self._write()

    def save(self) -> None:
        """Write the file if a place has moved, without waiting for the disk: an older place is right too."""
        if self._changed:
            self._write(durable=False)

    def _write(self, *, durable: bool = True) -> None:
        content = msgspec.json.format(msgspec.json.encode(self._places), indent=1)
        write_whole(self._path, content + b"\n", durable=durable)
        self._changed = False
        self._unwritten = self._unwritten and not durable
