"""A phase of the brewhouse as a service of orders: an OPC UA resource server that drives the plant's machines.

    python phases.py mash 4841

Beside the plant, as its external programs (`batch.toml`), one for each of the three. `mash` runs the machine `mash` and
stands for the brewer who confirms its rests, `kettle` boils the wort, `cellar` takes it to the temperature of its
yeast. A phase that is called while it is under way goes on with it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workshop"))
from knobs import Knobs
from machine import Machine, serve
from machines import Service

import tagwerk
from tagwerk.protocols.machines import GetMachine, MachineState, SendEvent, SetParameter

LOOK_S: Final = 0.2
PHASE_LIMIT_S: Final = 900.0
BOILING_DEGC: Final = 99.0
COLD_DEGC: Final = 20.0  # below anything in the kettle: the loop does not heat
NEAR_K: Final = 0.5
_log = logging.getLogger("phases")

Phase = Callable[[tagwerk.Plant, Mapping[str, Any]], float]


class PhaseFailed(Exception):  # noqa: N818  of the batch, not of ours
    """A phase did not come to its end."""


@dataclass(frozen=True)
class PhaseService(Service):
    """A service that is a phase: it ends when the phase has ended, and fails if that does.

    Args:
        phase: What it does with the plant; gives the number that is its output.
    """

    phase: Phase | None = None

    async def over(self, outputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Run the phase in a thread, as the plant's client blocks."""
        try:
            return {self.outputs[0][0]: await asyncio.to_thread(self._run, outputs)}
        except (PhaseFailed, tagwerk.TagwerkError) as error:
            _log.error("%s: %s", self.name, error)
            return None

    def _run(self, inputs: Mapping[str, Any]) -> float:
        assert self.phase is not None, "each of ours has one"
        with tagwerk.attach(timeout_s=20.0) as plant:
            return self.phase(plant, inputs)


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait until it holds.

    Raises:
        PhaseFailed: It did not within `PHASE_LIMIT_S`.
    """
    deadline = time.monotonic() + PHASE_LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise PhaseFailed(f"waited {PHASE_LIMIT_S:g} s for {what}")
        time.sleep(LOOK_S)


def number(plant: tagwerk.Plant, tag: str) -> float:
    """Read a number; one that is not good is none, and no phase goes on by it."""
    found = plant.read(tag)
    return float(found.value) if found.good and isinstance(found.value, (int, float)) else float("nan")


def mash(plant: tagwerk.Plant, inputs: Mapping[str, Any]) -> float:
    """Run the machine `mash` through its rests; the order stands for the brewer who confirms them."""
    machine = "machine/mash"
    for place, degc in enumerate(inputs["rests"], 1):
        plant.ask(machine, SetParameter(f"rest_{place}_temperature", float(degc), "order"))

    def state() -> str:
        return plant.query(machine, GetMachine(), MachineState).state

    if state() not in ("heating", "resting", "rested"):  # else it is under way: this program was started again
        plant.ask(machine, SendEvent("start", "order"))
    until("the mash to begin", lambda: state() not in ("idle", "done"))

    def over() -> bool:
        now = state()
        if now == "rested":
            plant.ask(machine, SendEvent("confirm", "order"))
        if now == "aborted":
            raise PhaseFailed("the mash was aborted")
        return now == "done"

    until("the end of the mash", over)
    return number(plant, "brewhouse.mash.temperature")


def boil(plant: tagwerk.Plant, inputs: Mapping[str, Any]) -> float:
    """Bring the kettle to the boil, keep it there, and let the heater go."""
    plant.write("brewhouse.kettle.auto", True)
    plant.write("brewhouse.kettle.setpoint", 101.0, unit="degC")
    try:
        until("the boil", lambda: number(plant, "brewhouse.kettle.temperature") >= BOILING_DEGC)
        time.sleep(60.0 * float(inputs["minutes"]) / number(plant, "plc.speed"))
        return number(plant, "brewhouse.kettle.temperature")
    finally:
        plant.write("brewhouse.kettle.setpoint", COLD_DEGC, unit="degC")


def pitch(plant: tagwerk.Plant, inputs: Mapping[str, Any]) -> float:
    """Bring the fermenter to the temperature of its yeast."""
    degc, tag = float(inputs["degc"]), "cellar.fermenter1.temperature"
    plant.write("cellar.fermenter1.setpoint", degc, unit="degC")
    until("the fermenter", lambda: abs(number(plant, tag) - degc) < NEAR_K)
    return number(plant, tag)


WORT, YEAST = (("wort_degc", "Double"),), (("beer_degc", "Double"),)
UNITS: Final = {
    "mash": PhaseService("Mash", (("rests", "Double[]"),), (("mash_degc", "Double"),), tells_uuid=True, phase=mash),
    "kettle": PhaseService("Boil", (("minutes", "Double"),), WORT, tells_uuid=True, phase=boil),
    "cellar": PhaseService("Pitch", (("degc", "Double"),), YEAST, tells_uuid=True, phase=pitch),
}


def main() -> None:
    """Serve one of them until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unit", choices=tuple(UNITS))
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    machine = Machine(given.unit, given.port, [UNITS[given.unit]], {}, Knobs(delay_s=0.0))
    asyncio.run(serve(machine, ""))


if __name__ == "__main__":
    main()
