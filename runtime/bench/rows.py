"""What a measurement says: one row a figure, beside its floor; and on which machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil

LIBRARIES: Final = ("pyzmq", "numpy", "msgpack", "msgspec")
LOOK_S: Final = 0.3
"""How long the processor is looked at to tell how busy it is."""


class Row(msgspec.Struct, frozen=True):
    """One figure.

    Args:
        name: What was measured.
        value: The figure.
        unit: Its unit.
        floor: The same work with bare libraries, in the same run; None: there is no such thing.
        ratio: 1.0 is the floor, more is better: `value / floor` of a rate, `floor / value` of a time.
        n: How many single measurements it comes from.
        median: Of them; so are `low` and `high`.
        low: The least of them.
        high: The greatest.
    """

    name: str
    value: float
    unit: str
    floor: float | None
    ratio: float | None
    n: int
    median: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """Give it as `--json` shows it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {key: round(figure, 4) if isinstance(figure, float) else figure for key, figure in found.items()}


def rate(name: str, ours: Sequence[float], floors: Sequence[float]) -> Row:
    """Give the row of a rate in samples/s: the median of the runs, more is better."""
    value, base = statistics.median(ours), statistics.median(floors)
    return _row(name, value, "samples/s", base, value / base, ours)


def delay(name: str, unit: str, ours: Sequence[float], floors: Sequence[float], percent: float = 50) -> Row:
    """Give the row of a time: less is better, so the ratio is the floor's part of it.

    Args:
        name: What was measured.
        unit: Of all figures.
        ours: One figure a run, or one a kill.
        floors: The floor's.
        percent: Which percentile of the figures is the value.
    """
    value, base = float(np.percentile(ours, percent)), float(np.percentile(floors, percent))
    return _row(name, value, unit, base, base / value, ours)


def _row(name: str, value: float, unit: str, base: float, ratio: float, ours: Sequence[float]) -> Row:
    return Row(name, value, unit, base, ratio, len(ours), statistics.median(ours), min(ours), max(ours))


def machine() -> dict[str, Any]:
    """Describe this machine, and how busy it is just now: who reads a figure needs both."""
    busy = psutil.cpu_percent(LOOK_S) * (os.cpu_count() or 1) / 100
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_1m": round(os.getloadavg()[0], 2),
        "cores_busy": round(busy, 2),
    }


def described(found: dict[str, Any]) -> str:
    """Give the machine's description as a line for people."""
    gigabytes = found["memory_bytes"] / 1e9
    return (
        f"{found['cores']} cores ({found['processor']}), {gigabytes:.0f} GB, Linux {found['kernel']}, "
        f"Python {found['python']}; {found['cores_busy']:.1f} cores busy before the run"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()
