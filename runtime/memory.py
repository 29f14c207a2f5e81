"""Giving memory back: after a start that passed through much more than is kept."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give what is free in the heap back to the system: glibc keeps it, and a fork of this process would inherit it."""
    # malloc_trim(3); other C libraries have none, and keep less.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
