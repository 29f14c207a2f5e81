"""What a run has shown: the verdict, its table and its JSON."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a run. The counts are of samples, transitions of alarms, and watchers.

    Args:
        seed: Of the plan.
        seconds: How long the load ran.
        acknowledged: Samples that the writers were told are safe.
        in_history: Rows with a value in history.
        lost: Acknowledged, and not in history with value, time and quality.
        duplicated: Rows too many.
        strange: Rows that nobody wrote.
        alarms_expected: Raises and clears that the samples imply.
        alarms_recorded: Raises and clears that are recorded.
        alarms_missed: Implied, not recorded.
        alarms_unfounded: Recorded, not implied, or once too often.
        watchers_differing: Watchers that had something else than their shards.
        leftovers: What was left after the stop.
        kills: SIGKILLs by name of `--kill`.
        blows: All strikes, (name, how) -> count.
        recovery_ms: From the kill of each actor to the answer of its successor.
        failures: What the writers were told instead of an acknowledgement, by batches.
        commands: What the commander was told, by commands.
        wrong_commands: Carried out twice, late, or against what the commander was told.
        leases_due: Safe values that were owed because the machine was gone.
        leases_fired: Of them, those that came in time; the others wait for a link or a device that was struck too.
        leases_missed: Those that did not come.
        findings: Whatever else was wrong.
        evidence: The first of what was lost, doubled, strange or missed, in words.
    """

    seed: int
    seconds: float
    acknowledged: int
    in_history: int
    lost: int
    duplicated: int
    strange: int
    alarms_expected: int
    alarms_recorded: int
    alarms_missed: int
    alarms_unfounded: int
    watchers_differing: int
    leftovers: tuple[str, ...]
    kills: dict[str, int]
    blows: dict[tuple[str, str], int]
    recovery_ms: tuple[float, ...]
    failures: dict[str, int]
    commands: dict[str, int]
    wrong_commands: int
    leases_due: int
    leases_fired: int
    leases_missed: int
    findings: tuple[str, ...]
    evidence: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """True if every promise was kept. A run in which nothing was acknowledged proves nothing, and has failed."""
        broken = (
            self.lost + self.duplicated + self.strange + self.alarms_missed + self.alarms_unfounded
            + self.watchers_differing + self.wrong_commands + self.leases_missed
            + len(self.leftovers) + len(self.findings)
        )  # fmt: skip
        return broken == 0 and self.acknowledged > 0

    def percentile_ms(self, percent: float) -> float | None:
        """Give a percentile of the recovery times; None if no actor was killed."""
        return round(float(np.percentile(self.recovery_ms, percent)), 1) if self.recovery_ms else None

    def as_json(self) -> dict[str, Any]:
        """Give the object that `--json` prints."""
        return {
            "kept": self.kept,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "acknowledged": self.acknowledged,
            "in_history": self.in_history,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "alarms_expected": self.alarms_expected,
            "alarms_recorded": self.alarms_recorded,
            "alarms_missed": self.alarms_missed,
            "watchers_differing": self.watchers_differing,
            "leftovers": list(self.leftovers),
            "kills": self.kills,
            "recovery_ms": {
                "p50": self.percentile_ms(50), "p95": self.percentile_ms(95), "max": self.percentile_ms(100),
            },
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str, str]]:
        """Give the table: what was promised, what was seen, and whether that is as it must be."""
        recovery = (
            "no actor was killed"
            if not self.recovery_ms
            else f"p50 {self.percentile_ms(50)} ms, p95 {self.percentile_ms(95)} ms, max {self.percentile_ms(100)} ms"
        )
        failures = _counted(self.failures)
        return [
            ("acknowledged samples", f"{self.acknowledged:,}", _mark(self.acknowledged == 0)),
            ("rows in history", f"{self.in_history:,}", ""),
            ("lost", f"{self.lost:,}", _mark(self.lost)),
            ("there more than once", f"{self.duplicated:,}", _mark(self.duplicated)),
            ("written by nobody", f"{self.strange:,}", _mark(self.strange)),
            ("alarm transitions implied", f"{self.alarms_expected:,}", ""),
            ("alarm transitions recorded", f"{self.alarms_recorded:,}", ""),
            ("missed", f"{self.alarms_missed:,}", _mark(self.alarms_missed)),
            ("unfounded or twice", f"{self.alarms_unfounded:,}", _mark(self.alarms_unfounded)),
            ("watchers that differ", str(self.watchers_differing), _mark(self.watchers_differing)),
            ("commands given", _counted(self.commands), ""),
            ("commands twice, late or against their word", f"{self.wrong_commands:,}", _mark(self.wrong_commands)),
            ("safe values that leases owed", f"{self.leases_due}, {self.leases_fired} in time", ""),
            ("safe values that did not come", str(self.leases_missed), _mark(self.leases_missed)),
            ("left after the stop", str(len(self.leftovers)), _mark(len(self.leftovers))),
            ("other findings", str(len(self.findings)), _mark(len(self.findings))),
            ("batches not acknowledged", failures or "none was refused", ""),
            ("killed", self._struck("kill"), ""),
            ("frozen", self._struck("freeze"), ""),
            ("restarted", self._struck("restart"), ""),
            ("kill to answer, actors", recovery, ""),
        ]

    def _struck(self, how: str) -> str:
        return ", ".join(f"{name} {count}" for (name, done), count in sorted(self.blows.items()) if done == how) or "-"

    def signature(self) -> str:
        """Give the line that says what was tested on what."""
        import tagwerk

        machine = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs"
        return (
            f"seed {self.seed}, {self.seconds:.0f} s, tagwerk {tagwerk.__version__}, "
            f"Python {platform.python_version()}, {machine}"
        )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))


def _mark(wrong: int | bool) -> str:
    return "BROKEN" if wrong else "kept"
