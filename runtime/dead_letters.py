"""Dead letters: what was not delivered, or of which nobody knows."""

from __future__ import annotations

from collections import deque
from typing import Final

from tagwerk.protocols.plantwide import DeadLetter

DEAD_LETTERS_LIMIT: Final = 1_000


class DeadLetterBox:
    """What was not delivered: the newest `DEAD_LETTERS_LIMIT`, and a count of all."""

    def __init__(self) -> None:
        self.letters: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_LIMIT)
        self.total = 0

    def put(self, letter: DeadLetter) -> None:
        """Keep one."""
        self.letters.append(letter)
        self.total += 1
