"""How far a long command is, on standard error, if a person looks at it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self, final

if TYPE_CHECKING:
    from types import TracebackType

SHOW_S: Final = 0.25
"""How often, and also how long a command runs in silence."""


@final
class Progress:
    """One line that is written over, and gone at the end.

    Args:
        what: What is counted: `samples`.
        to_file: The output goes into a file, not to standard output.
    """

    def __init__(self, what: str, *, to_file: bool) -> None:
        self._what = what
        # A line that is written over would go through the output if both were the same terminal.
        self._shown = sys.stderr.isatty() and (to_file or not sys.stdout.isatty())
        self._next_s = time.monotonic() + SHOW_S
        self._written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._written:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, done: int, share: float | None = None) -> None:
        """Show it, if it is time.

        Args:
            done: How many so far.
            share: Of all there is to do, 0 to 1; None if nobody knows.
        """
        now_s = time.monotonic()
        if not self._shown or now_s < self._next_s:
            return
        self._next_s = now_s + SHOW_S
        self._written = True
        percent = "" if share is None else f", {100 * min(max(share, 0.0), 1.0):.0f} %"
        sys.stderr.write(f"\r\x1b[K{done:,} {self._what}{percent}")
        sys.stderr.flush()
