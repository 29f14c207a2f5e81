"""A machine on its bench with its store: born, restored, cycled, sent events, reset. No messages, no sockets."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, final

from statemachine.exceptions import TransitionNotAllowed

from tagwerk.actors.machines.bench import Bench
from tagwerk.actors.machines.declare import outputs_of, parameters_of
from tagwerk.actors.machines.machine import BUILT_IN, Machine, operator_events
from tagwerk.actors.machines.store import MachineStore, Stored
from tagwerk.protocols.errors import LocalProtocolError, Refused, RefusedCode
from tagwerk.protocols.plantwide import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tagwerk.protocols.errors import TagwerkError
    from tagwerk.runtime.clock import Clock

SAVE_S: Final = 5.0
"""How often kept attributes are stored that change between two transitions."""

RESUME, RESET = BUILT_IN
_NS: Final = 1_000_000_000


@final
class Stage:
    """One machine, its place in the chart, and what survives of it.

    Args:
        kind: The machine's class.
        configured: Parameters of the plant file.
        types: Types of the outputs' tags.
        store: What it kept.
        clock: Time.
        boot: Which boot this is, for monotonic times of an earlier process.
        log: The machine's log.

    Attributes:
        wait: What an operator has to decide before the machine runs, in words, or "".
        choices: The built-in events that decide it.
    """

    def __init__(
        self,
        kind: type[Machine],
        configured: Mapping[str, float | int | bool | str],
        types: dict[str, str],
        store: MachineStore,
        clock: Clock,
        boot: int,
        log: logging.Logger,
    ) -> None:
        self._kind = kind
        self._store = store
        self._clock = clock
        self._boot = boot
        self._log = log
        self._saved_ns = clock.mono_ns()
        self._machine: Machine | None = None
        self.bench = Bench(kind, parameters=self._parameters(configured), types=types, log=log)
        self.wait = ""
        self.choices: tuple[str, ...] = ()

    @property
    def machine(self) -> Machine:
        """The machine.

        Raises:
            LocalProtocolError: It is not born yet.
        """
        if self._machine is None:
            raise LocalProtocolError("the machine is not born yet")
        return self._machine

    @property
    def ended(self) -> bool:
        """Whether the chart is in a final state."""
        return any(state.final and state.id == self.machine.state for state in self._kind.states)

    def start(self, after_restart: str) -> None:
        """Be born: in the first state, or where the machine was.

        Args:
            after_restart: `wait` for an operator, or `resume` at once, if the machine ran before.
        """
        self.set_time()
        stored = self._store.place
        if stored is None:
            self._machine = self._kind.build(self.bench)
            return
        values = {state.id: state.value for state in self._kind.states}
        if stored.state not in values:
            self.choices = (RESET,)
            self.wait = f"was in state {stored.state}, which its class has no more; send {RESET} to start anew"
            self._machine = self._kind.build(self.bench)
            return
        self._restore(stored, values[stored.state])
        if after_restart == "wait":
            self.choices = (RESUME, RESET)
            self.wait = f"waiting for an operator after a restart in state {stored.state}: {RESUME} or {RESET}"

    def set_time(self) -> None:
        """Let the machine see the present time."""
        self.bench.now_ns = self._clock.now_ns()
        self.bench.mono_ns = self._clock.mono_ns()

    def events(self) -> tuple[str, ...]:
        """What an operator may send now."""
        if self.wait:
            return self.choices
        return (*operator_events(self.machine), RESET) if self.ended else operator_events(self.machine)

    def send(self, name: str, event: Event) -> None:
        """Take an operator's event; what it changes is stored, with the record of it, when this returns.

        Args:
            name: The event.
            event: The record, `before` and `after` still empty.

        Raises:
            Refused: `NotActive`, naming what may be sent instead.
        """
        if name not in self.events():
            allowed = ", ".join(self.events()) or "none"
            where = "while it waits for an operator" if self.wait else f"in state {self.machine.state}"
            raise Refused(RefusedCode.NOT_ACTIVE, f"{name!r} is not allowed {where}; allowed: {allowed}")
        before = self.machine.state
        self.set_time()
        if name in BUILT_IN:
            self._decide(name)
        else:
            self._take(name)
        self.save(Event(event.time_ns, event.user, event.host, event.kind, event.target, before,
                        f"{name}: {self.machine.state}", event.reason))  # fmt: skip

    def cycle(self, seconds: float) -> None:
        """One cycle; a transition is stored when this returns.

        Args:
            seconds: What the cycle accounts for.
        """
        changes, before = self.bench.place.changes, self.machine.state
        self.bench.cycle_s = seconds
        self.machine.cycle(self.bench.now_ns)
        due = self.bench.mono_ns - self._saved_ns >= SAVE_S * _NS
        if changes != self.bench.place.changes or self._store.place is None or (due and self._changed()):
            self.save(self._of_itself(before))

    def write_failed(self, output: str, error: TagwerkError) -> None:
        """Tell the machine; a transition that it makes of it is stored when this returns."""
        changes, before = self.bench.place.changes, self.machine.state
        self.set_time()
        self.machine.on_write_failed(output, error)
        if changes != self.bench.place.changes:
            self.save(self._of_itself(before))

    def set_parameter(self, name: str, value: object, event: Event) -> None:
        """Set a parameter; it is stored, with the record of it, when this returns.

        Raises:
            Refused: `BadValue` (no such parameter), `WrongType` or `OutOfRange`.
        """
        declared = parameters_of(self._kind)
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise Refused(RefusedCode.BAD_VALUE, f"there is no parameter {name!r}; there are: {known}")
        accepted = declared[name].accept(value)
        before, after = (f"{name}: {shown}" for shown in (self.bench.parameters[name], accepted))
        record = Event(event.time_ns, event.user, event.host, event.kind, event.target, before, after, event.reason)
        self._store.save_parameter(name, accepted, record)
        self.bench.parameters[name] = accepted

    def save(self, event: Event | None = None) -> None:
        """Store the place, kept attributes and outputs, and owe the event."""
        self._store.save_place(self._record(), event)
        self._saved_ns = self.bench.mono_ns

    def close(self) -> None:
        """A clean end: keep what changed since the last time."""
        self.set_time()
        if self._store.place is not None and self._changed():
            self.save()
        self._store.close()

    def _of_itself(self, before: str) -> Event | None:
        """The record of what the machine did without an operator that an operator may do as well, such as to abort.

        What only the machine can do (its event begins with `_`) is its work, and not worth a row.
        """
        after = self.machine.state
        state = next(state for state in self._kind.states if state.id == before)
        steps = [step for step in state.transitions if step.target is not None and step.target.id == after]
        names = [str(name.id) for step in steps for name in step.events]
        if after == before or any(name.startswith("_") for name in names):
            return None
        what = f"{names[0]}: {after}" if names else after
        machine = self._log.name  # an actor's log has the name of the actor
        return Event(self.bench.now_ns, machine, "", "machine.self", machine, before, what, "by the machine itself")

    def _decide(self, name: str) -> None:
        self.wait, self.choices = "", ()
        if name == RESET:
            self._reset()

    def _take(self, name: str) -> None:
        changes = self.bench.place.changes
        try:
            self.machine.send(name)
        except TransitionNotAllowed as error:
            if changes != self.bench.place.changes or str(error.event) != name:
                raise  # the machine itself sent what is not allowed, in the middle of the transition
            message = f"{name!r} is not allowed in state {self.machine.state} now: its condition does not hold"
            raise Refused(RefusedCode.NOT_ACTIVE, message) from error

    def _reset(self) -> None:
        """The first state, as if it never ran, with its outputs safe."""
        bench = self.bench
        bench.wanted.clear()
        bench.forced.clear()
        for name, output in outputs_of(self._kind).items():
            if output.tag is None:
                bench.wanted[name] = None
            elif not output.keeps:
                bench.assign(name, output.safe)
        bench.place.restore(None, bench.mono_ns)
        self._machine = self._kind.build(bench)

    def _restore(self, stored: Stored, value: Any) -> None:
        bench = self.bench
        if stored.boot == self._boot:
            entered_ns = stored.entered_mono_ns
        else:  # monotonic time began anew: the wall clock is the best there is
            entered_ns = bench.mono_ns - max(0, bench.now_ns - stored.entered_ns)
        bench.place.restore(value, entered_ns)
        self._machine = self._kind.build(bench)
        for name, kept in stored.kept.items():
            if name in self._kind.keep:
                setattr(self._machine, name, kept)
        outputs = outputs_of(self._kind)
        bench.wanted = {name: wanted for name, wanted in stored.wanted.items() if name in outputs}

    def _record(self) -> Stored:
        bench = self.bench
        elapsed_ns = bench.mono_ns - bench.place.entered_ns
        kept = {name: _copied(name, getattr(self.machine, name)) for name in self._kind.keep}
        entered_ns = bench.now_ns - elapsed_ns
        return Stored(self.machine.state, bench.place.entered_ns, entered_ns, self._boot, kept, dict(bench.wanted))

    def _changed(self) -> bool:
        stored, now = self._store.place, self._record()
        return stored is None or (stored.state, stored.kept, stored.wanted) != (now.state, now.kept, now.wanted)

    def _parameters(self, configured: Mapping[str, float | int | bool | str]) -> dict[str, float | int | bool | str]:
        """Defaults, over them the plant file, over that what operators have set."""
        result: dict[str, float | int | bool | str] = {}
        for name, given in parameters_of(self._kind).items():
            result[name] = given.accept(configured.get(name, given.default))
            if name not in self._store.parameters:
                continue
            try:
                result[name] = given.accept(self._store.parameters[name])
            except Refused as error:
                self._log.warning("parameter that an operator has set does not fit any more: %s", error.message)
        return result


def _copied(name: str, value: Any) -> Any:
    """A kept attribute as it will be read again, apart from what the machine goes on changing."""
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        msg = f"keep: {name} is {value!r}; only numbers, bools, texts, None, lists and dicts can be kept"
        raise TypeError(msg) from error
