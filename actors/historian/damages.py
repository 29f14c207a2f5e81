"""The days of which something cannot be read, each told once."""

from __future__ import annotations

from typing import final

from tagwerk.actors.historian.days import day_name


@final
class Damages:
    """What was found damaged since the start."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._untold: list[int] = []

    def note(self, day: int, reason: str) -> None:
        """Samples of a day cannot be read."""
        if day not in self._known:
            self._known[day] = reason
            self._untold.append(day)

    def new(self) -> list[tuple[str, str]]:
        """The days that were found since this was last asked: (date, reason)."""
        found = [(day_name(day), self._known[day]) for day in self._untold]
        self._untold.clear()
        return found
