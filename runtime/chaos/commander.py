"""The one who gives commands: numbers to the device, each once, and the word to go on to the machine that pulses."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tagwerk.protocols.errors import NotJournaled, NotSent, Refused, TagwerkError, Unknown
from tagwerk.protocols.machines import SendEvent
from tagwerk.runtime.attach import Plant
from tagwerk.runtime.chaos.commands import COMMAND, MACHINE, NOT_SENT, REFUSED, SECOND_NS, TAKEN, UNKNOWN
from tagwerk.runtime.clock import SystemClock
from tagwerk.runtime.page import Page
from tagwerk.runtime.states import PeerState

COMMAND_TAG: Final = f"chaos.device.{COMMAND}"
PERIOD_S: Final = 0.1
TIMEOUT_S: Final = 1.0
"""A command is not carried out after it."""
LOOK_S: Final = 0.5
WAITS_S: Final = 4.0
"""So long the machine is left waiting after a restart: its lease has to lapse."""
RESUME: Final = "resume"


class Commander:
    """Gives commands until it is told to end.

    Args:
        plant: To whom.
        ledger: Each command is written down before it is given, and what was told after.
        page: The plant's gauge page.
        stopped: Tells whether to end.
    """

    def __init__(self, plant: Plant, ledger: Path, page: Page, stopped: Callable[[], bool]) -> None:
        self._plant = plant
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._page = page
        self._stopped = stopped
        self._clock = SystemClock()
        self._number = ledger.read_bytes().count(b"A ")
        self._look_s = 0.0
        self._waits_since_s = 0.0
        self._incarnation = 0

    def run(self) -> None:
        """Command at a rate, and look after the machine."""
        due_s = time.monotonic()
        while not self._stopped():
            self._command()
            if time.monotonic() >= self._look_s:
                self._look_s = time.monotonic() + LOOK_S
                self._look_after()
            due_s = max(due_s + PERIOD_S, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _command(self) -> None:
        self._number += 1
        deadline_ns = self._clock.mono_ns() + round(TIMEOUT_S * SECOND_NS)
        os.write(self._file, b"A %d %d\n" % (self._number, deadline_ns))
        try:
            self._plant.write(COMMAND_TAG, float(self._number), timeout_s=TIMEOUT_S, reason="chaos")
            outcome = TAKEN
        except NotJournaled:  # the device has it; history has not
            outcome = TAKEN
        except Refused:
            outcome = REFUSED
        except NotSent:
            outcome = NOT_SENT
        except Unknown:
            outcome = UNKNOWN
        os.write(self._file, b"R %d %s\n" % (self._number, outcome.encode()))

    def _look_after(self) -> None:
        self._page.reopen_if_replaced()
        seen = self._page.look(MACHINE)
        if seen is None or seen.state is not PeerState.RUNNING:
            return
        if seen.incarnation != self._incarnation:
            self._incarnation = seen.incarnation
            self._waits_since_s = time.monotonic()
        if time.monotonic() - self._waits_since_s < WAITS_S:
            return
        with suppress(TagwerkError):  # it is just being struck
            with suppress(Refused):  # it did not wait
                self._plant.call(MACHINE, SendEvent(RESUME, "chaos"), TIMEOUT_S)
            self._waits_since_s = math.inf
