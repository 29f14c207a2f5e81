"""The writers, watchers and the commander from outside: started, struck, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgspec

from tagwerk.runtime.chaos.commands import Command, read_commands
from tagwerk.runtime.chaos.load import GOODBYE_S, Task
from tagwerk.runtime.chaos.numbers import FILLER, Ledger, WriterSpec, read_ledger
from tagwerk.runtime.process import Identity

WATCHES: Final = ((("chaos.*",), True), (("*",), False), (("chaos.a.*", "chaos.c.*", "chaos.e.*"), True))
"""What each watcher watches, and whether it looks at each sample."""
STOP_S: Final = GOODBYE_S + 10.0


@dataclass(slots=True)
class Member:
    """One process of ours.

    Args:
        name: `writer/a`, `watcher/0`.
        task: What it does.
        process: It, None before its start.
        start_at_s: Monotonic; when it is to be started (again), None if it runs and shall run.
        starts: How often it was started.
    """

    name: str
    task: Task
    process: subprocess.Popen[bytes] | None = None
    start_at_s: float | None = 0.0
    starts: int = 0

    @property
    def identity(self) -> Identity | None:
        """The process that runs now."""
        return Identity.of(self.process.pid) if self.process is not None and self.process.poll() is None else None


@final
class Crew:
    """All writers and watchers.

    Args:
        home: The plant's home.
        folder: Where their files go.
        seed: Of the run.
        writers: The writers.
    """

    def __init__(self, home: Path, folder: Path, seed: int, writers: tuple[WriterSpec, ...]) -> None:
        self._folder = folder
        self._wanted = 0
        self.specs = writers
        self.findings: list[str] = []
        """What has ended by itself."""
        us = os.getpid()
        folder.mkdir()
        self.members = [
            Member(f"writer/{spec.name}", Task(str(home), us, seed, str(self._ledger(spec)), spec)) for spec in writers
        ]
        for number, (globs, every) in enumerate(WATCHES):
            path = folder / f"watcher-{number}.json"
            task = Task(str(home), us, seed, watch=globs, every=every, table=str(path))
            self.members.append(Member(f"watcher/{number}", task))
        self._commands = folder / "commands.ledger"
        self.members.append(Member("commander/0", Task(str(home), us, seed, str(self._commands))))
        filler = Task(str(home), us, seed, str(self._ledger(FILLER)), FILLER, until_full=True)
        self._filler = Member(f"filler/{FILLER.name}", filler, start_at_s=None)

    def of(self, kind: str) -> list[Member]:
        """Give the `writer`s or the `watcher`s."""
        return [member for member in self.members if member.name.startswith(f"{kind}/")]

    @property
    def absent(self) -> bool:
        """One of them is owed its start."""
        return any(member.start_at_s is not None for member in self.members)

    def tick(self) -> None:
        """Start who is due; note who has ended by itself."""
        now_s = time.monotonic()
        for member in self.members:
            ended = member.process is not None and member.process.poll() is not None
            if member.start_at_s is None and ended and member.process is not None:
                said = self._said(member)
                self.findings.append(f"{member.name} has ended by itself with {member.process.returncode}: {said}")
                member.start_at_s = now_s + 1.0
            if member.start_at_s is not None and member.start_at_s <= now_s and (member.process is None or ended):
                self._start(member)

    def fill(self) -> Member:
        """Start the one that writes until a journal is full; it ends by itself."""
        self._start(self._filler)
        return self._filler

    def kill_filler(self) -> None:
        """End it, if it has not ended by itself."""
        if self._filler.process is not None:
            self._filler.process.kill()
            self._filler.process.wait()

    @property
    def filled(self) -> bool:
        """Whether it was told that a journal takes no more."""
        return len(self.ledgers()[FILLER.name].unstored) > 0

    def commands(self) -> list[Command]:
        """Read what the commander wrote down."""
        return read_commands(self._commands.read_bytes() if self._commands.exists() else b"")

    def kill(self, member: Member, back_after_s: float) -> None:
        """Kill one of them, and have it back later."""
        member.start_at_s = time.monotonic() + back_after_s
        if member.process is not None:
            member.process.kill()
            member.process.wait()

    def restart(self, member: Member) -> None:
        """Have one of them end as it should, and start again when it has."""
        member.start_at_s = time.monotonic()
        if member.process is not None:
            member.process.terminate()

    def end(self, kind: str) -> None:
        """Have all of a kind end as they should; who does not is killed, and noted."""
        members = self.of(kind)
        for member in members:
            member.start_at_s = None
            if member.process is not None and member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)
                member.process.terminate()
        deadline = time.monotonic() + STOP_S
        for member in members:
            if member.process is None:
                continue
            try:
                code = member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
                self.findings.append(f"{member.name} did not end within {STOP_S:g} s")
                continue
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM):  # SIGTERM: it was just being started
                self.findings.append(f"{member.name} ended with {code}: {self._said(member)}")

    def kill_all(self) -> None:
        """End all of them at once."""
        for member in self.members:
            member.start_at_s = None
            if member.process is not None:
                member.process.kill()
                member.process.wait()
        self.kill_filler()

    def ledgers(self) -> dict[str, Ledger]:
        """Read what the writers wrote down, by the writer's name."""
        found: dict[str, Ledger] = {}
        for spec in (*self.specs, FILLER):
            path = self._ledger(spec)
            found[spec.name] = read_ledger(path.read_bytes() if path.exists() else b"")
        return found

    def tables(self, timeout_s: float) -> dict[str, dict[str, tuple[float | None, int, int]] | None]:
        """Ask all watchers for their tables; None of one that has not answered in time."""
        self._wanted += 1
        asked = str(self._wanted)
        watchers = self.of("watcher")
        for member in watchers:
            Path(f"{member.task.table}.wanted").write_text(asked)
        deadline = time.monotonic() + timeout_s
        found: dict[str, dict[str, tuple[float | None, int, int]] | None] = dict.fromkeys(
            member.name for member in watchers
        )
        while time.monotonic() < deadline and None in found.values():
            for member in watchers:
                path = Path(member.task.table)
                if found[member.name] is None and path.exists():
                    answer = msgspec.json.decode(path.read_bytes(), type=_Answer)
                    found[member.name] = answer.rows if answer.asked == asked else None
            time.sleep(0.02)
        return found

    def _ledger(self, spec: WriterSpec) -> Path:
        return self._folder / f"writer-{spec.name}.ledger"

    def _start(self, member: Member) -> None:
        with self._words(member).open("ab") as words:
            member.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tagwerk.runtime.chaos.load", msgspec.json.encode(member.task).decode()],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # a Ctrl-C in this terminal is not for it
            )
        member.start_at_s = None
        member.starts += 1

    def _words(self, member: Member) -> Path:
        return self._folder / f"{member.name.replace('/', '-')}.log"

    def _said(self, member: Member) -> str:
        lines = self._words(member).read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


class _Answer(msgspec.Struct):
    asked: str
    rows: dict[str, tuple[float | None, int, int]]
