"""Inspecting users' code in a process of its own: it may hang, crash, print or exit, and the asker goes on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self, final

from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime.plantfile import PlantFile
from tagwerk.runtime.process import kill_group

INSPECTOR: Final = "tagwerk.actors.machines.inspect_classes"
MARK: Final = "inspecting machine "
REPORT_LIMIT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class PublishedTag:
    """A tag that a machine publishes and the plant file does not declare."""

    name: str
    type: str
    unit: str
    source: str
    description: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What users' code holds.

    Args:
        errors: All that is wrong with it.
        tags: The tags that it adds to the plant.
    """

    errors: tuple[ConfigError, ...]
    tags: tuple[PublishedTag, ...]


def inspect(plant_path: Path, code_dir: Path, timeout_s: float = 20.0) -> Inspection:
    """Import the machines' classes and compare them with the plant. Blocks until done, at most `timeout_s`.

    Errors of the plant file itself are not told here.

    Args:
        plant_path: The plant file.
        code_dir: Where the machines' modules are.
        timeout_s: After this the process is killed, and that is an error.
    """
    with Inspecting(plant_path, code_dir) as under_way:
        return under_way.result(timeout_s)


@final
class Inspecting:
    """An inspection that is under way, in a process of its own. A context manager: it does not outlive the block.

    Args:
        plant_path: The plant file.
        code_dir: Where the machines' modules are.
    """

    def __init__(self, plant_path: Path, code_dir: Path) -> None:
        self._plant_path = plant_path
        self._stack = contextlib.ExitStack()
        self._output, self._words = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  see `__exit__`
        self._stack.push(self._output)
        self._stack.push(self._words)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", INSPECTOR, str(plant_path), str(code_dir)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._words,
            start_new_session=True,
        )
        self._stack.callback(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def result(self, timeout_s: float = 20.0) -> Inspection:
        """Give what was found. Blocks until it is done, at most `timeout_s`; after that it is killed."""
        in_time = _wait(self._process.pid, timeout_s)
        code = self._end()
        if in_time and code == 0 and (report := _report(self._output)) is not None:
            return report
        how = f"did not end within {timeout_s:g} s" if not in_time else _ending(code)
        words = _read(self._words).decode(errors="replace")
        return Inspection((_no_report(self._plant_path, how, words),), ())

    def _end(self) -> int:
        if self._process.returncode is None:
            # Not reaped yet, so the number is still its own: whatever it started ends with it.
            kill_group(self._process.pid)
        return self._process.wait()


def check(plant: PlantFile) -> list[ConfigError]:
    """The same as a check of `plantfile.load`, of the code beside the plant file."""
    return list(inspect(plant.path, plant.path.absolute().parent).errors) if plant.machines else []


def _wait(pid: int, timeout_s: float) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(pidfd)


def _report(output: IO[bytes]) -> Inspection | None:
    try:
        found: dict[str, Any] = json.loads(_read(output))
        errors = tuple(ConfigError(**row) for row in found["errors"])
        return Inspection(errors, tuple(PublishedTag(**tag) for tag in found["tags"]))
    except (ValueError, TypeError, KeyError):  # users' code got hold of our output, or ended the process early
        return None


def _no_report(plant_path: Path, how: str, words: str) -> ConfigError:
    lines = [line for line in words.splitlines() if line.strip()]
    names = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    last = next((line.strip()[:200] for line in reversed(lines) if not line.startswith(MARK)), "")
    key = f"machine.{names[-1]}.class" if names else ""
    return ConfigError(
        f"the process that inspects the machine's code {how}" + (f": {last}" if last else ""),
        file=str(plant_path),
        key=key,
        expected="a module that can be imported at once, without a plant around it",
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended without a report, exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(REPORT_LIMIT_BYTES)
