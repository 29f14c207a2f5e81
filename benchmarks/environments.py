"""The peers, and for each of them a virtual environment of its own, made when it is first needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

PEERS = Path(__file__).parent / "peers"
CACHE = Path.home() / ".cache" / "tagwerk-benchmarks"
STAMP = "requirements.txt"
LIMIT_S = 600.0


class PeerError(Exception):
    """A peer could not be installed, or has measured nothing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a user would pick instead.

    Args:
        file: Its module in `peers/`.
        requirements: What its environment holds, pinned.
        keeps: What it promises of a value that was taken: its durability.
        server: A program that must be on the PATH; "": none.
        get: How to get that.
    """

    file: str
    requirements: tuple[str, ...]
    keeps: str
    server: str = ""
    get: str = ""

    def missing(self) -> str:
        """Say what is not there, and how to get it; "" if all is there."""
        if not self.server or shutil.which(self.server):
            return ""
        return f"{self.server} is not on the PATH; {self.get}"


NOTHING = "nothing: values live in memory"
ALL: Mapping[str, Peer] = MappingProxyType(
    {
        "pyautomation": Peer(
            "pyautomation.py",
            ("PyAutomationIO==2.8.0",),
            "SQLite journal (WAL, synchronous NORMAL) before its database; bare: nothing",
        ),
        "redis": Peer(
            "redis_server.py",
            ("redis[hiredis]==8.1.0",),
            "append-only file, fsync once a second",
            "redis-server",
            "Debian: apt install redis-server",
        ),
        "epics": Peer("epics.py", ("p4p==4.3.0",), NOTHING),
        "nats": Peer(
            "nats_server.py",
            ("nats-py==2.16.0",),
            "nothing: core NATS stores no message",
            "nats-server",
            "Debian: apt install nats-server",
        ),
        "ray": Peer("ray_actors.py", ("ray==2.60.0",), NOTHING),
        "xoscar": Peer("xoscar_actors.py", ("xoscar==0.12.2",), NOTHING),
        "pyro": Peer("pyro_objects.py", ("Pyro5==5.17",), NOTHING),
        "supervisord": Peer(
            "supervisord_alone.py",
            ("supervisor==4.3.0", "pyzmq==27.3.0", "numpy", "msgpack", "msgspec", "pykka"),
            NOTHING,
        ),
        "asyncua": Peer("asyncua_plain.py", ("asyncua==2.1.0",), NOTHING),
    }
)


SYNCED = "all that was committed: synced at each commit"
HISTORY: Mapping[str, Peer] = MappingProxyType(
    {
        "sqlite": Peer("history_sqlite.py", ("sqlite-utils==4.2.1", "numpy"), SYNCED),
        "duckdb": Peer("history_duckdb.py", ("duckdb==2.0.0", "pyarrow==26.0.1", "numpy"), SYNCED),
        "parquet": Peer("history_parquet.py", ("pyarrow==26.0.1", "numpy"), SYNCED),
        "postgresql": Peer("history_postgres.py", ("psycopg[binary]==3.3.9", "numpy"), SYNCED),
    }
)
"""Stores of history; see `stores`."""

_EVERYBODY: Mapping[str, Peer] = MappingProxyType({**ALL, **HISTORY})


def python_of(name: str, cache: Path) -> Path:
    """Give the interpreter of a peer; its environment is made if it is not there, or was made of something else.

    Raises:
        PeerError: It could not be installed.
    """
    folder = cache / name
    python = folder / "bin" / "python"
    wanted = "\n".join(_EVERYBODY[name].requirements) + "\n"
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)  # what was left of another try
    venv.create(folder, with_pip=True)
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *_EVERYBODY[name].requirements,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerError(f"pip install {' '.join(_EVERYBODY[name].requirements)}: {_last(done.stderr)}")
    stamp.write_text(wanted)
    return python


def run(name: str, cache: Path, sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Have a peer measure once; give its rows.

    Raises:
        PeerError: It has none.
    """
    python = python_of(name, cache)
    with tempfile.TemporaryDirectory(prefix="tw-peer-", ignore_cleanup_errors=True) as folder:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        process = subprocess.Popen(
            [python, "-u", PEERS / _EVERYBODY[name].file, json.dumps(sizes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,  # all that it starts is one group, and can be ended as one
            env=clean | {"TMPDIR": folder, "RAY_TMPDIR": folder},
        )
        try:
            out, complaint = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"it was not done after {LIMIT_S:g} s") from error
        finally:
            _end_group(process)
    if process.returncode != 0:
        raise PeerError(_last(complaint))
    return rows_in(out)


def rows_in(out: str) -> list[dict[str, Any]]:
    """Find what `speak.tell` said among all that a peer's libraries print.

    Raises:
        PeerError: It said nothing.
    """
    said = [line for line in out.splitlines() if line.startswith('{"rows"')]
    if not said:
        raise PeerError(f"it gave no figures: {_last(out)}")
    rows: list[dict[str, Any]] = json.loads(said[-1])["rows"]
    return rows


def _end_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
