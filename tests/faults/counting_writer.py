"""A writer that counts: `counting_writer.py HOME LEDGER`. One number a publish, on all tags, until it is killed.

Each number is tried once. The ledger says `t N` before and `a N` after the acknowledgement. The value of the tags
`count.*` is the number; that of `alarm.*` is the number if it is even, else 0. A life begins with an odd number.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tagwerk

COUNTS = tuple(f"count.t{number:02}" for number in range(6))
ALARMS = tuple(f"alarm.t{number:02}" for number in range(4))


def read_ledger(path: Path) -> tuple[list[int], list[int]]:
    """Give (tried, acknowledged)."""
    found: dict[str, list[int]] = {"t": [], "a": []}
    for line in path.read_text().splitlines() if path.exists() else ():
        kind, _, number = line.partition(" ")
        found[kind].append(int(number))
    return found["t"], found["a"]


def main(home: str, path: str) -> None:
    """Count until killed."""
    tried, _ = read_ledger(Path(path))
    number = (max(tried, default=0) + 1) | 1
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with tagwerk.attach(home=Path(home), writer="count", timeout_s=30.0) as plant:
        while True:
            os.write(ledger, b"t %d\n" % number)
            values = [float(number)] * len(COUNTS) + [float(0 if number % 2 else number)] * len(ALARMS)
            plant.publish(plant.samples((*COUNTS, *ALARMS), values), timeout_s=30.0)
            os.write(ledger, b"a %d\n" % number)
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
