"""One thread that waits for the disk, so that the journal's owner need not.

An fdatasync takes milliseconds on a good day; it lets the interpreter go meanwhile, so the owner's loop is not slowed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, final

Given = ParamSpec("Given")


@final
class Side:
    """Does one thing at a time beside its owner's thread, which starts it and asks for its end."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None  # made by the first start: a thread does not survive a fork
        self._under_way: Future[None] | None = None

    def start(self, work: Callable[Given, None], *args: Given.args, **kwargs: Given.kwargs) -> None:
        """Begin; the last one must be done. What `work` touches is its own until then."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "disk")
        self._under_way = self._pool.submit(work, *args, **kwargs)

    def done(self, *, wait: bool = False) -> bool:
        """Say whether nothing is under way.

        Args:
            wait: Until nothing is.

        Raises:
            OSError: What the work raised, once.
        """
        under_way = self._under_way
        if under_way is None:
            return True
        if not wait and not under_way.done():
            return False
        self._under_way = None
        under_way.result()
        return True

    def close(self) -> None:
        """Wait for what is under way, whatever becomes of it, and end the thread."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
