"""A machine that never stands still: `tagwerk chaos` puts it into the plant that it strikes."""

from __future__ import annotations

from tagwerk.actors.machines.declare import Input, Output
from tagwerk.actors.machines.machine import Machine


class Pulse(Machine):
    """Writes the second of the minute each cycle, as long as its device is there; -1 when it is gone."""

    beat = Input("chaos.device.beat", required=True)
    pulse = Output("chaos.device.pulse", safe=-1.0)

    def cycle(self, now_ns: int) -> None:
        """Write it: a number that differs from the last one by more than a read-back may."""
        self.pulse = now_ns % 60_000_000_000 / 1e9
