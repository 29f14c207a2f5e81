"""The blows: who is hit, by what, and how long it takes until it serves again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, final

from tagwerk.protocols.errors import TagwerkError
from tagwerk.protocols.plantwide import DeadLetters, GetDeadLetters
from tagwerk.runtime.attach import Plant
from tagwerk.runtime.chaos.commands import Blow
from tagwerk.runtime.chaos.crew import Crew, Member
from tagwerk.runtime.chaos.plan import KINDS, OURS, SUPERVISION, How, Strike
from tagwerk.runtime.chaos.scratch import Scratch, not_running
from tagwerk.runtime.cli import supervision
from tagwerk.runtime.node_ctl import NodeCtl
from tagwerk.runtime.page import Page
from tagwerk.runtime.process import Identity
from tagwerk.runtime.states import PeerState

ASKERS: Final = 4
ANSWER_S: Final = 10.0
FILL_S: Final = 60.0
"""The journals have to be full after so long."""
FULL_S: Final = 1.0
"""They stay full for so long."""
HISTORIAN: Final = "historian/0"
BACK_S: Final = 60.0
"""Who does not serve so long after a blow is reported as broken."""
SUPERVISORD: Final = "supervisord"
NODE: Final = "node/main"
_PAGE_S: Final = 0.05


@dataclass(slots=True)
class _Fallen:
    strike: Strike
    target: str
    process: Identity
    at_s: float
    incarnation: int = 0
    alone: bool = True
    """Nothing was wrong with its supervision while it was down."""
    answer: Future[float] | None = None
    """When its successor answered, monotonic."""


@dataclass(slots=True)
class _Frozen:
    target: str
    process: Identity
    name: str
    at_s: float
    until_s: float


@final
class Striker:
    """Strikes, and watches the recovery.

    Args:
        scratch: The plant.
        page: Its gauge page.
        crew: The writers and watchers.
        plant: Asks who was killed whether it is there again.
        say: Takes a line of progress.
    """

    def __init__(self, scratch: Scratch, page: Page, crew: Crew, plant: Plant, say: Callable[[str], None]) -> None:
        self._plant = plant
        self._askers = ThreadPoolExecutor(ASKERS, "chaos-ask")
        self._filling: threading.Thread | None = None
        self._scratch = scratch
        self._page = page
        self._crew = crew
        self._say = say
        self._fallen: list[_Fallen] = []
        self._frozen: list[_Frozen] = []
        self._restarts: list[threading.Thread] = []
        self._supervise_at_s: float | None = None
        self._looked_s = 0.0
        self.counts: Counter[tuple[str, How]] = Counter()
        self.recovery_ms: list[float] = []
        """Of actors that were killed while all was well with their node: from SIGKILL to the successor's answer."""
        self.blows: list[Blow] = []
        self.findings: list[str] = []
        self.seen: set[Identity] = set()

    @property
    def supervision_is_down(self) -> bool:
        """True while the node or supervisord has not come back: what is struck now would prove nothing."""
        return self._supervise_at_s is not None or any(fallen.target == NODE for fallen in self._fallen)

    def available(self, name: str) -> int:
        """Give how many processes of a name of `--kill` there are."""
        if name in OURS:
            return len(self._crew.of(name))
        return 1 if name in (SUPERVISORD, "node") else len(self._actors(name))

    def strike(self, strike: Strike) -> None:
        """Carry out a strike. One whose target is not there at the moment is told, and not counted."""
        if self._is_filling and strike.name in (*SUPERVISION, "historian"):
            self._tell(strike, strike.name, "is spared while the journals are filled")
            done = False
        elif strike.name in OURS:
            members = self._crew.of(strike.name)
            done = self._strike_member(members[strike.pick % len(members)], strike)
        elif strike.name == SUPERVISORD:
            done = self._strike_supervisord(strike)
        else:
            names = [NODE] if strike.name == "node" else self._actors(strike.name)
            done = self._strike_actor(names[strike.pick % len(names)], strike)
        if done:
            self.counts[strike.name, strike.how] += 1

    def tick(self) -> None:
        """Thaw who is due, start a supervisord if one is due, see who serves again."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _PAGE_S:
            self._looked_s = now_s
            self._page.reopen_if_replaced()
            self._note_processes()
        for frozen in [frozen for frozen in self._frozen if frozen.until_s <= now_s]:
            self._thaw(frozen)
        if self._supervise_at_s is not None and self._supervise_at_s <= now_s:
            self._supervise_at_s = None
            self._scratch.supervise()
        for fallen in list(self._fallen):
            self._look_after(fallen, now_s)

    def fill(self) -> None:
        """Fill the journals: the historian is stopped, one writes without a rate until they take no more."""
        self._filling = threading.Thread(target=self._fill, daemon=True)
        self._filling.start()

    def _fill(self) -> None:
        ctl = NodeCtl(self._scratch.home)
        try:
            ctl.call("stop", HISTORIAN, BACK_S)
            self._say("the historian is stopped, and the journals are filled")
            filler = self._crew.fill()
            began_s = time.monotonic()
            while filler.identity is not None and time.monotonic() - began_s < FILL_S:
                time.sleep(0.05)
            self._crew.kill_filler()
            if not self._crew.filled:
                self.findings.append(f"no journal was full after {time.monotonic() - began_s:.0f} s")
            time.sleep(FULL_S)
            self._say(f"full after {time.monotonic() - began_s:.1f} s; the historian is started")
            ctl.call("start", HISTORIAN, BACK_S)
        except (TagwerkError, OSError) as error:
            self.findings.append(f"the journals could not be filled: {error}")

    def settle(self, tick: Callable[[], None]) -> None:
        """Thaw all, and wait until everything of the plant runs.

        Args:
            tick: Called all the time, as during the run.
        """
        for frozen in list(self._frozen):
            self._thaw(frozen)
        if self._supervise_at_s is not None:
            self._supervise_at_s = time.monotonic()
        self._wait(tick, lambda: self._at_work, FILL_S + BACK_S)
        if self._wait(tick, lambda: bool(self._fallen) or self._crew.absent or bool(not_running(self._page)), BACK_S):
            self.findings.append(f"not RUNNING at the end: {', '.join(not_running(self._page)) or 'the load'}")

    @property
    def _at_work(self) -> bool:
        """Somebody is just being restarted, the journals are being filled, or a supervisord is owed."""
        restarting = any(thread.is_alive() for thread in self._restarts)
        return self._is_filling or restarting or self._supervise_at_s is not None

    @property
    def _is_filling(self) -> bool:
        return self._filling is not None and self._filling.is_alive()

    @staticmethod
    def _wait(tick: Callable[[], None], on: Callable[[], bool], limit_s: float) -> bool:
        """Wait while `on`, at most so long; True if it still is."""
        deadline = time.monotonic() + limit_s
        while on() and time.monotonic() < deadline:
            tick()
            time.sleep(0.005)
        return on()

    def close(self) -> None:
        """Ask nobody any more."""
        self._askers.shutdown(wait=False, cancel_futures=True)

    # --- blows -------------------------------------------------------------------------------------------------------

    def _strike_member(self, member: Member, strike: Strike) -> bool:
        identity = member.identity
        if identity is None:
            self._tell(strike, member.name, "is not there at the moment")
            return False
        if strike.how is How.KILL:
            self._crew.kill(member, strike.hold_s)
            self._tell(strike, member.name, f"is started again after {strike.hold_s:.1f} s")
        elif strike.how is How.RESTART:
            self._crew.restart(member)
            self._tell(strike, member.name, "is told to end, and started again")
        else:
            self._freeze(strike, member.name, identity)
        return True

    def _strike_supervisord(self, strike: Strike) -> bool:
        supervisord = self._scratch.supervisord
        identity = (
            None if supervisord is None or supervisord.ended is not None else Identity.of(supervisord.process.pid)
        )
        if supervisord is None or identity is None:
            self._tell(strike, SUPERVISORD, "is not there at the moment")
            return False
        if strike.how is not How.KILL:
            self._freeze(strike, SUPERVISORD, identity)
            return True
        node = self._page.node
        self._kill(supervisord.process.pid)
        supervisord.process.wait()
        self._supervise_at_s = time.monotonic() + strike.hold_s
        self._fallen.append(_Fallen(strike, NODE, node, time.monotonic()))
        self._tell(strike, SUPERVISORD, f"its successor starts after {strike.hold_s:.1f} s")
        return True

    def _strike_actor(self, name: str, strike: Strike) -> bool:
        seen = self._page.look(name)
        process = self._page.node if name == NODE else None if seen is None else Identity.of(seen.pid)
        if seen is None or process is None or not process.is_alive() or seen.state is not PeerState.RUNNING:
            self._tell(strike, name, "is not there at the moment")
            return False
        if strike.how is How.FREEZE:
            self._freeze(strike, name, process)
        elif strike.how is How.RESTART:
            thread = threading.Thread(target=self._restart, args=(strike, name), daemon=True)
            self._restarts.append(thread)
            thread.start()
        else:
            self._fallen.append(_Fallen(strike, name, process, time.monotonic(), seen.incarnation))
            self._kill(process.pid)
        return True

    def _freeze(self, strike: Strike, target: str, process: Identity) -> None:
        now_s = time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)
        self._frozen.append(_Frozen(target, process, strike.name, now_s, now_s + strike.hold_s))
        self._tell(strike, target, f"stands still for {strike.hold_s:.1f} s")

    def _restart(self, strike: Strike, name: str) -> None:
        began_s = time.monotonic()
        try:
            words = NodeCtl(self._scratch.home).call("restart", name, BACK_S).message
        except (TagwerkError, OSError) as error:  # the node may be struck meanwhile
            words = str(error)
        self._note_blow(strike.name, name, began_s)
        self._tell(strike, name, f"{words}, {(time.monotonic() - began_s) * 1e3:.0f} ms")

    @staticmethod
    def _kill(pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    # --- recovery ----------------------------------------------------------------------------------------------------

    def _thaw(self, frozen: _Frozen) -> None:
        self._frozen.remove(frozen)
        self._note_blow(frozen.name, frozen.target, frozen.at_s)
        if frozen.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(frozen.process.pid, signal.SIGCONT)

    def _look_after(self, fallen: _Fallen, now_s: float) -> None:
        if fallen.target == NODE:
            back = self._page.node != fallen.process and not not_running(self._page)
        elif fallen.target.startswith("external/"):
            back = self._is_new(fallen, PeerState.RUNNING)
        else:
            back = self._answers(fallen)
            now_s = fallen.answer.result() if back and fallen.answer is not None else now_s
        took_ms = (now_s - fallen.at_s) * 1e3
        fallen.alone &= not self.supervision_is_down and all(frozen.target != NODE for frozen in self._frozen)
        if back:
            self._fallen.remove(fallen)
            self._note_blow(fallen.strike.name, fallen.target, fallen.at_s)
            if fallen.alone and not fallen.target.startswith("external/"):
                self.recovery_ms.append(took_ms)
            what = "all of the plant runs" if fallen.target == NODE else "answers"
            self._tell(fallen.strike, fallen.target, f"{what} after {took_ms:.0f} ms")
        elif took_ms > BACK_S * 1e3:
            self._fallen.remove(fallen)
            self.findings.append(f"{fallen.target} does not serve {BACK_S:g} s after {fallen.strike.how}")

    def _is_new(self, fallen: _Fallen, *states: PeerState) -> bool:
        seen = self._page.look(fallen.target)
        return seen is not None and seen.incarnation != fallen.incarnation and (not states or seen.state in states)

    def _answers(self, fallen: _Fallen) -> bool:
        """Ask the successor as soon as there is one; True when it has answered."""
        if fallen.answer is None:
            if self._is_new(fallen):
                fallen.answer = self._askers.submit(self._ask, fallen.target)
        elif fallen.answer.done():
            if fallen.answer.exception() is None:
                return True
            fallen.answer = None  # it was struck again meanwhile
        return False

    def _ask(self, name: str) -> float:
        self._plant.query(name, GetDeadLetters(1), DeadLetters, ANSWER_S)
        return time.monotonic()

    def _note_blow(self, name: str, target: str, start_s: float) -> None:
        self.blows.append(Blow(name, target, round(start_s * 1e9), time.monotonic_ns()))

    def _note_processes(self) -> None:
        names = self._page.names()
        pids = [seen.pid for name in names if (seen := self._page.look(name)) is not None and seen.pid]
        pids += [member.process.pid for member in self._crew.members if member.process is not None]
        known = {identity.pid for identity in self.seen}
        self.seen.update(identity for pid in pids if pid not in known and (identity := Identity.of(pid)) is not None)
        running = supervision.find(self._scratch.home) if not self.seen else None
        if running is not None and running.supervisor is not None:
            self.seen.add(running.supervisor)

    def _actors(self, name: str) -> list[str]:
        kind = KINDS[name]
        return [actor for actor in self._page.names() if actor.startswith(f"{kind}/")]

    def _tell(self, strike: Strike, target: str, words: str) -> None:
        self._say(f"{strike.at_s:7.1f} s  {strike.how:<7}  {target:<16}  {words}")
