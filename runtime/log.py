"""Log files: one a process, appended to, in one form."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

ROTATE_BYTES: Final = 10_000_000  # looked at when a process starts; the file before is kept as `.1`


class _Form(logging.Formatter):
    """Time (RFC 3339, UTC), actor, level, text, and the logger if it is a library's.

    A record starts in column 0, its further lines do not.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ {actor} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._actor = actor

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n    ")
        ours = record.name == self._actor or record.name.startswith(("tagwerk.", "__main__"))
        return text if ours else f"{text} ({record.name})"


def redirect_output(path: Path) -> None:
    """Let standard output and error go to a log file, and standard input come from nowhere.

    No process keeps a pipe it inherited: a reader that stops reading would stop the plant.
    """
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def configure_logging(actor: str) -> None:
    """Send all records of this process to standard error, instead of wherever a parent sent them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Form(actor))
    logging.basicConfig(handlers=[handler], force=True)
    # Not again in a fork: it writes to every logger there is, and so into memory that the forks share.
    if logging.root.level != logging.INFO:
        logging.root.setLevel(logging.INFO)
