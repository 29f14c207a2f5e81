"""Dead letters: what was not delivered, or of which nobody knows.

The reason of each begins with its sort and a colon: `not done`, `unknown`, `late` (a reply to an asker that had given
up), `old` (from an earlier life of a link or of its peer), `nonsense`.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import chain
from typing import Final

from tagwerk.protocols.plantwide import DeadLetter

DEAD_LETTERS_LIMIT: Final = 1_000
"""How many are kept, of each sort: a flood of nonsense does not push out commands of which nobody knows."""
TEXT_LIMIT: Final = 200
"""Letters of a name or reason that are kept: they may come from outside."""
SORTS: Final = ("not done", "unknown", "late", "old", "nonsense")
OTHER: Final = "other"


class DeadLetterBox:
    """What was not delivered: the newest `DEAD_LETTERS_LIMIT` of each sort, and a count of all."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[DeadLetter]] = {}
        self.counts: Counter[str] = Counter()
        """How many there were of each sort."""

    @property
    def total(self) -> int:
        """How many there were in all."""
        return self.counts.total()

    @property
    def letters(self) -> list[DeadLetter]:
        """Those that are kept, oldest first."""
        return sorted(chain.from_iterable(self._kept.values()), key=lambda letter: letter.time_ns)

    def put(self, letter: DeadLetter) -> None:
        """Keep one."""
        begin = letter.reason.partition(":")[0]
        sort = begin if begin in SORTS else OTHER
        self.counts[sort] += 1
        kept = self._kept.setdefault(sort, deque(maxlen=DEAD_LETTERS_LIMIT))
        sender, to, what, reason = (
            text[:TEXT_LIMIT] for text in (letter.sender, letter.to, letter.type, letter.reason)
        )
        kept.append(DeadLetter(letter.time_ns, sender, to, what, reason, letter.size))
