"""The actor of one machine: its inputs come in by a watch, its outputs go out as writes under a lease."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from tagwerk.actors.machines.bench import WAITING, Reading
from tagwerk.actors.machines.declare import parameters_of
from tagwerk.actors.machines.loading import load_class
from tagwerk.actors.machines.logic import LOOK_S, Gate, Grid, Leases, OutputPlan, Phase, WatchedTags
from tagwerk.actors.machines.stage import Stage
from tagwerk.actors.machines.store import MachineStore
from tagwerk.actors.machines.wires import Wire, wire_inputs, wire_outputs
from tagwerk.protocols import quality as q
from tagwerk.protocols import samples as s
from tagwerk.protocols.errors import NotSent, Refused, TagwerkError, Unknown, WindowFull
from tagwerk.protocols.machines import GetMachine, MachineState, MachineVariable, SendEvent, SetParameter
from tagwerk.protocols.message import Done, Message, Refusal
from tagwerk.protocols.plantwide import Event
from tagwerk.protocols.tags import DropLease, HoldLease, TagWritten, WriteNotSent, WriteTag, WriteUnknown
from tagwerk.runtime.actor import Actor, Later, Outcome, Sender
from tagwerk.runtime.home import RESTORED
from tagwerk.runtime.process import boot_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tagwerk.protocols.samples import Samples, Value
    from tagwerk.runtime.context import ActorContext
    from tagwerk.runtime.transport import Transport

WRITE_TIMEOUT_S: Final = 5.0
_NS: Final = 1_000_000_000


class MachineActor(Actor):
    """Runs one machine of the plant: see the module.

    Args:
        context: Who it is and where it lives.
        transport: ZeroMQ unless a test gives the in-memory twin.
    """

    def __init__(self, context: ActorContext, transport: Transport | None = None) -> None:
        super().__init__(context, transport)
        self._short_name = self.name.partition("/")[2]
        self._config = context.plant.machines[self._short_name]
        self._lease_s = self._config.effective_lease_s
        self._plan = OutputPlan()
        self._published = OutputPlan()
        self._raw: dict[int, Reading] = {}
        self._silent: set[str] = set()
        self._failures: dict[str, str] = {}
        self._running = False
        self._align_due = True
        self._last_cycle_ns: int | None = None
        self._cycles = 0
        self._overruns = 0

    # --- start and stop ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Import the class, restore what was kept, then watch; the first cycle looks whether it may run."""
        kind = load_class(self._config.class_path, self.context.code)
        tags = self.definitions.by_name
        self._inputs = wire_inputs(kind, tags)
        self._outputs = wire_outputs(kind, self._short_name, tags)
        folder = self.context.home.actor_data(self.name)
        self._restored = folder / RESTORED
        store = MachineStore(folder)
        self.outbox = store.outbox
        types = {name: wire.tag.type for name, wire in self._outputs.items()}
        self._stage = Stage(kind, self._config.parameters, types, store, self.clock, boot_hash(), self.log)
        # Born before anything is watched: the actions of its first state must not depend on who is faster.
        self._stage.start("wait" if self._restored.exists() else self._config.after_restart)
        if not self._stage.wait:
            self._restored.unlink(missing_ok=True)
        self._open_gate()
        wires = [*self._inputs.values(), *(wire for wire in self._outputs.values() if not wire.published)]
        if wires:
            self.watch(sorted({wire.tag.name for wire in wires}), self._on_samples, self._on_stale)
        if self._published_wires():
            self.publisher().on_refused = self._on_refused
            self.publisher().on_reborn = partial(self._published.align, {})  # all of it is published again
        # The first cycle is due at once; those after it come along with the other timers of this process.
        self._grid = Grid(self.reactor.period_from_ns(self._config.interval_s), self._config.interval_s)
        self._tick()
        self.ready()

    def _open_gate(self) -> None:
        owners = {wire.owner for wire in self._outputs.values() if wire.owner}
        self._required = WatchedTags({w.tag.handle: w.tag.name for w in self._inputs.values() if w.required})
        self._driven = WatchedTags({w.tag.handle: w.tag.name for w in self._outputs.values() if w.owner})
        self._leases = Leases(sorted(owners), self._lease_s, self._config.interval_s)
        links = (self.context.plant.opcua.get(owner.partition("/")[2]) for owner in owners)
        # What a link writes comes back with its next publishing: two of them, in case the first just went.
        slowest_s = max((link.publish_interval_s + link.sample_interval_s for link in links if link), default=0.0)
        self._gate = Gate(
            self._required, self._driven, self._leases, wait=self._stage.wait, look_s=LOOK_S + 2 * slowest_s
        )

    def on_stop(self) -> None:
        """Leave the outputs safe at once rather than when the lease lapses."""
        for owner in self._owners():
            self.tell(owner, DropLease(self.name, write_safe=True))
        if self._published_wires():
            self.publisher().goodbye()
        self._stage.close()

    # --- what comes in -----------------------------------------------------------------------------------------------

    def on_message(self, message: Message, sender: Sender) -> Message | Later | None:
        """Serve operators."""
        try:
            if isinstance(message, SendEvent):
                return self._send_event(message)
            if isinstance(message, SetParameter):
                return self._set_parameter(message)
        except Refused as refused:
            return Refusal(refused.code, refused.message, refused.tag or self.name)
        return self._state() if isinstance(message, GetMachine) else super().on_message(message, sender)

    def _send_event(self, message: SendEvent) -> Message:
        self._refresh()
        event = Event(self.clock.now_ns(), message.by, message.host, "machine.send", self.name, reason=message.reason)
        before = self._stage.machine.state
        self._stage.send(message.event, event)
        self._gate.wait = self._stage.wait
        if not self._stage.wait:
            self._restored.unlink(missing_ok=True)
        self._gate.step(self.clock.mono_ns())
        self.log.info("%s by %s: %s -> %s", message.event, message.by, before, self._stage.machine.state)
        self._hand_over()
        return self._state()

    def _set_parameter(self, message: SetParameter) -> Message:
        event = Event(self.clock.now_ns(), message.by, message.host, "machine.set", self.name, reason=message.reason)
        self._stage.set_parameter(message.name, message.value, event)
        self.log.info("parameter %s set to %s by %s", message.name, message.value, message.by)
        return self._state()

    def _on_samples(self, samples: Samples) -> None:
        mono_ns = self.clock.mono_ns()
        last = {handle: row for row, handle in enumerate(samples.tags.tolist())}
        for handle, row in last.items():
            before = self._raw.get(handle, WAITING)
            value = before.value if samples.values is None else samples.values[row]
            plain: Value = value.item() if isinstance(value, np.generic) else value
            quality = int(samples.quality[row])
            self._raw[handle] = Reading(plain, quality, int(samples.times[row]))
            self._required.see(handle, quality, mono_ns, snapshot=samples.snapshot)
            self._driven.see(handle, quality, mono_ns, snapshot=samples.snapshot)

    def _on_stale(self, shard: str, stale: bool) -> None:
        (self._silent.add if stale else self._silent.discard)(shard)
        wires = (*self._inputs.values(), *self._outputs.values())
        handles = [wire.tag.handle for wire in wires if f"cvt/{wire.tag.shard}" == shard]
        self._required.hear(handles, self.clock.mono_ns(), silent=stale)
        self._driven.hear(handles, self.clock.mono_ns(), silent=stale)
        self.log.warning("%s %s", shard, "is silent" if stale else "speaks again")

    def _refresh(self) -> None:
        bench = self._stage.bench
        bench.inputs = {name: self._reading(wire) for name, wire in self._inputs.items()}
        bench.readback = {name: self._reading(wire) for name, wire in self._outputs.items() if not wire.published}

    def _reading(self, wire: Wire) -> Reading:
        raw = self._raw.get(wire.tag.handle, WAITING)
        silent = f"cvt/{wire.tag.shard}" in self._silent and not q.is_bad(raw.quality)
        quality = q.UNCERTAIN_NO_COMMUNICATION if silent else raw.quality
        return Reading(wire.own(raw.value), quality, raw.time_ns)

    # --- the cycle ---------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._overruns += self._grid.take(self.clock.mono_ns())
        self._stage.set_time()
        self._refresh()
        phase, reason = self._gate.phase, self._gate.reason
        running = self._gate.step(self.clock.mono_ns()) is Phase.RUNNING
        if (phase, reason) != (self._gate.phase, self._gate.reason):
            self.log.info("%s", self._gate.reason or "running")
        self._align_due = self._align_due or self._gate.phase is Phase.LEASE
        if self._gate.renews:
            self._renew()
        if running:
            self._cycle()
        else:
            self._last_cycle_ns = None
        self._running = running
        self._publish()
        self.after(self._grid.delay_s(self.clock.mono_ns()), self._tick)

    def _cycle(self) -> None:
        if self._align_due:
            self._align()
        mono_ns = self._stage.bench.mono_ns
        last_ns, self._last_cycle_ns = self._last_cycle_ns, mono_ns
        seconds = self._config.interval_s if last_ns is None else (mono_ns - last_ns) / _NS
        self._stage.cycle(seconds)
        self._cycles += 1
        self._running = True
        self._hand_over()

    def _align(self) -> None:
        """After a start or a lapsed lease: what the outputs have now is what was handed over."""
        readback = self._stage.bench.readback
        known = {name: reading.value for name, reading in readback.items() if q.is_good(reading.quality)}
        # This very process let the lease lapse, so the link wrote the safe values, whatever was read back so far.
        lapsed = [wire.name for wire in self._outputs.values() if self._cycles and wire.safe is not None]
        self._plan.align(known, forget=lapsed)
        self._align_due = False

    def _renew(self) -> None:
        for owner in self._leases.due(self.clock.mono_ns()):
            wires = [wire for wire in self._outputs.values() if wire.owner == owner]
            handles = tuple(wire.tag.handle for wire in wires)
            hold = HoldLease(self.name, handles, tuple(wire.safe for wire in wires), self._lease_s)
            self._leases.asked(owner, self.clock.mono_ns())
            self.ask(owner, hold, partial(self._on_lease, owner), timeout_s=self._leases.renew_s)

    def _on_lease(self, owner: str, outcome: Outcome) -> None:
        if isinstance(outcome, Done):
            self._leases.granted(owner)
        elif isinstance(outcome, Message):
            self._leases.failed(owner, f"answered {type(outcome).__name__}", refused=True)
        else:
            self._leases.failed(owner, str(outcome) or type(outcome).__name__, refused=isinstance(outcome, Refused))

    # --- what goes out -----------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        if not self._running:
            return
        bench = self._stage.bench
        for name, value in self._plan.due(self._tagged(bench.wanted), bench.forced):
            bench.forced.discard(name)
            self._write(self._outputs[name], value)

    def _write(self, wire: Wire, value: Value) -> None:
        self._plan.hand(wire.name, value)
        try:
            plain = wire.to_tag(value)
        except Refused as refused:
            # As a message of its own: the machine's hook must not run in the middle of a handover.
            self.after(0, partial(self._on_written, wire, refused))
            return
        # Named even where no device keeps a lease: it says that this is a machine's cycle, not somebody's decision.
        message = WriteTag(wire.tag.handle, plain, by=self.name, lease=self.name)
        self.ask(f"cvt/{wire.tag.shard}", message, partial(self._on_written, wire), timeout_s=WRITE_TIMEOUT_S)

    def _on_written(self, wire: Wire, outcome: Outcome) -> None:
        self._plan.answered(wire.name)
        error = _failure(outcome)
        if error is None:
            self._failures.pop(wire.name, None)
        else:
            self._failures[wire.name] = f"write of {wire.name} to {wire.tag.name}: {_words(error)}"
            self.log.error("%s", self._failures[wire.name])
            self._refresh()
            self._stage.write_failed(wire.name, error)
        self._hand_over()

    def _publish(self) -> None:
        wires = self._published_wires()
        wanted = {name: value for name, value in self._stage.bench.wanted.items() if name in wires}
        now_ns = self._stage.bench.now_ns
        for name, value in self._published.due(wanted):
            tag = wires[name].tag
            if value is None:
                batch = s.make(s.ValueType.QUALITY, [tag.handle], None, now_ns, q.BAD)
            else:
                kind = s.TYPE_NAMES[tag.type]
                batch = s.make(kind, [tag.handle], [wires[name].to_tag(value)], now_ns)
            try:
                self.publisher().publish(batch)
            except WindowFull:
                return  # the newest value goes out with a later cycle
            except Refused as refused:
                self._fail_publish(name, str(refused))
                continue  # such as a predecessor that still counts as alive: tried again with the next cycle
            self._failures.pop(name, None)
            self._published.hand(name, value, waiting=False)

    def _on_refused(self, handle: int, code: str) -> None:
        for name, wire in self._published_wires().items():
            if wire.tag.handle == handle:
                self._fail_publish(name, code)

    def _fail_publish(self, name: str, why: str) -> None:
        words = f"publishing {self._outputs[name].tag.name}: {why}"
        if self._failures.get(name) != words:
            self._failures[name] = words
            self.log.error("%s", words)

    # --- how it stands -----------------------------------------------------------------------------------------------

    def _state(self) -> MachineState:
        self._refresh()
        return MachineState(
            self._short_name,
            self._config.class_path,
            self._stage.machine.state,
            self._gate.phase is Phase.RUNNING,
            "; ".join([text for text in (self._gate.reason, *self._failures.values()) if text]),
            self._stage.events(),
            tuple(self._variables()),
            self._cycles,
            self._config.interval_s,
            self._overruns,
            self._lease_s,
        )

    def _variables(self) -> Iterable[MachineVariable]:
        bench = self._stage.bench
        for name, wire in self._inputs.items():
            reading = bench.inputs[name]
            yield MachineVariable(name, "input", wire.tag.name, wire.unit, reading.value, reading.quality)
        for name, wire in self._outputs.items():
            published = Reading(None, q.GOOD if bench.wanted.get(name) is not None else q.BAD_WAITING_FOR_INITIAL_DATA)
            quality = bench.readback.get(name, published).quality
            yield MachineVariable(name, "output", wire.tag.name, wire.unit, bench.read_output(name), quality)
        for name, given in parameters_of(type(self._stage.machine)).items():
            yield MachineVariable(name, "parameter", "", given.unit, bench.parameters[name])

    def _owners(self) -> list[str]:
        return sorted({wire.owner for wire in self._outputs.values() if wire.owner})

    def _published_wires(self) -> dict[str, Wire]:
        return {name: wire for name, wire in self._outputs.items() if wire.published}

    def _tagged(self, wanted: dict[str, Value]) -> dict[str, Value]:
        return {name: value for name, value in wanted.items() if not self._outputs[name].published}


def _failure(outcome: Outcome) -> TagwerkError | None:
    """What a write came to; None if it was done."""
    if isinstance(outcome, TagWritten):
        return None
    if isinstance(outcome, WriteNotSent):
        return NotSent(outcome.message)
    if isinstance(outcome, WriteUnknown):
        return Unknown(outcome.message)
    if isinstance(outcome, Message):
        return Unknown(f"answered {type(outcome).__name__}")
    if isinstance(outcome, (Refused, NotSent, Unknown)):
        return outcome
    return Unknown(str(outcome) or type(outcome).__name__)  # PeerDown, Timeout: it was handed over


def _words(error: TagwerkError) -> str:
    return str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
