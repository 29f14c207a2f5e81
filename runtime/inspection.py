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
from typing import IO, Any, Final

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
    command = [sys.executable, "-P", "-B", "-m", INSPECTOR, str(plant_path), str(code_dir)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=words, start_new_session=True
        )
        in_time = _wait(process.pid, timeout_s)
        # Not reaped yet, so the number is still its own: whatever it started ends with it.
        kill_group(process.pid)
        code = process.wait()
        if in_time and code == 0 and (report := _report(output)) is not None:
            return report
        how = f"did not end within {timeout_s:g} s" if not in_time else _ending(code)
        return Inspection((_no_report(plant_path, how, _read(words).decode(errors="replace")),), ())


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
