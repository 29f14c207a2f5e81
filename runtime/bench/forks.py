"""Processes and directories of who measures: forked, heard through a pipe, gone with it."""

from __future__ import annotations

import multiprocessing as mp
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self, final

from tagwerk.protocols.errors import TagwerkError, Unavailable
from tagwerk.runtime.process import die_with_parent

FORK: Final = mp.get_context("fork")
"""A fork has all libraries loaded. Who measures has no thread and no socket yet when it forks."""
END_S: Final = 5.0


@contextmanager
def scratch(prefix: str) -> Generator[Path]:
    """Give a new directory that is gone after, at whatever moment a Ctrl-C comes."""
    folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(4)}"
    try:  # its name is known before it is there: `mkdtemp` can be broken off with nobody knowing
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class _Failed:
    why: str


@final
class Fork:
    """One forked process; it is killed where the `with` ends.

    Args:
        work: What it does: called with its end of the pipe, then `args`.
        args: What else it needs.
    """

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        self.name = work.__name__
        self._pipe, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_carry_out, args=(os.getpid(), work, theirs, args), daemon=True)
        self._process.start()
        theirs.close()

    def hear(self, timeout_s: float) -> Any:
        """Wait for the next thing it says.

        Raises:
            Unavailable: It ended, or said nothing in time.
        """
        if not self._pipe.poll(timeout_s):
            raise Unavailable(f"{self.name} said nothing for {timeout_s:g} s")
        try:
            heard = self._pipe.recv()
        except EOFError as error:
            raise Unavailable(f"{self.name} ended before it had a figure") from error
        if isinstance(heard, _Failed):
            raise Unavailable(f"{self.name}: {heard.why}")
        return heard

    def say(self, word: str) -> None:
        """Tell it to go on."""
        self._pipe.send(word)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.join(END_S)
        self._process.close()
        self._pipe.close()


def _carry_out(parent: int, work: Callable[..., None], pipe: Connection, args: tuple[Any, ...]) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who started all this
    try:
        work(pipe, *args)
    except TagwerkError as error:  # any other one is a bug: it ends the process with its traceback
        pipe.send(_Failed(f"{type(error).__name__}: {error}"))
