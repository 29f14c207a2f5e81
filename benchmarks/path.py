"""Only the path of samples, beside the floor: a writer, a shard, a watcher. `tagwerk bench` measures more.

Run `python -m benchmarks.path` from the checkout.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from tagwerk.runtime.bench.plant import BenchPlant
from tagwerk.runtime.bench.rows import described, machine
from tagwerk.runtime.bench.suite import TAGS, Sizes, flows


def main() -> None:
    """Run all cases, in turns with the floor, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case; the median counts (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args()
    found = machine()
    with BenchPlant(TAGS) as plant:
        rows = flows(plant, replace(Sizes(), runs=given.rounds), lambda text: print(text, file=sys.stderr))
    if given.json:
        print(json.dumps({"machine": found, "rows": [row.as_json() for row in rows]}))
        return
    print(described(found))
    print(f"{'what':<48}{'tagwerk':>14}{'floor':>14}{'ratio':>8}")
    for row in rows:
        print(f"{row.name:<48}{row.value:>14,.3f}{row.floor:>14,.3f}{row.ratio:>8.2f}  {row.unit}")


if __name__ == "__main__":
    main()
