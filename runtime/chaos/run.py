"""One run: up, load and strikes, quiet, proof, down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tagwerk.protocols.alarms import GetOccurrences, OccurrenceList
from tagwerk.protocols.errors import ConfigError, Unavailable
from tagwerk.protocols.history import GetHistory, HistoryPage
from tagwerk.runtime.attach import Plant, attach
from tagwerk.runtime.chaos.commands import Execution, check_leases, wrong_commands
from tagwerk.runtime.chaos.crew import Crew
from tagwerk.runtime.chaos.numbers import FILLER, Ledger, WriterSpec, values_of, writers_for
from tagwerk.runtime.chaos.oracle import (
    EVIDENCE_LIMIT,
    AlarmFindings,
    Found,
    Transition,
    compare_alarms,
    compare_tag,
    differing,
    outside,
    to_first_stored,
    transitions_in,
    transitions_of,
    valued,
)
from tagwerk.runtime.chaos.plan import How, plan
from tagwerk.runtime.chaos.report import Verdict
from tagwerk.runtime.chaos.scratch import Scratch
from tagwerk.runtime.chaos.strike import Striker

CATCH_UP_S: Final = 60.0
"""After the writers have ended history and alarms may take so long to have all of it."""
EQUAL_S: Final = 15.0
"""After that a watcher may take so long to be in step: one that was lost finds out by the beats."""
ASK_S: Final = 60.0
FILL_AT: Final = 0.4
"""After this part of the time the journals are filled, once."""
FILL_LEAST_S: Final = 60.0
"""Shorter runs leave it out."""
OCCURRENCES: Final = 10_000
"""Occurrences of an alarm that one question gives; an alarm has at most one a second."""
_TICK_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for.

    Args:
        plant: The plant file.
        example: It is the example plant.
        seconds: How long the load runs.
        seed: Of plan and values.
        rate: Samples per second, of all writers together.
        kill: Of `plan.NAMES`.
        chosen: The user has named them one by one: each must be there.
    """

    plant: Path
    example: bool
    seconds: float
    seed: int
    rate: float
    kill: tuple[str, ...]
    chosen: bool


@dataclass(slots=True)
class _Proof:
    """What was found, gathered on the way."""

    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    strange: int = 0
    evidence: list[str] = field(default_factory=list[str])
    implied: list[Transition] = field(default_factory=list[Transition])
    unknown: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])
    """By alarm: stretches of time, (first, last) in ns, in which it followed what is in no journal."""

    def add(self, found: Found) -> None:
        self.rows += found.rows
        self.lost += found.lost
        self.duplicated += found.duplicated
        self.strange += found.strange
        self.evidence += found.evidence


def run(order: Order, scratch: Scratch, say: Callable[[str], None]) -> Verdict:
    """Carry a run through. The plant is down after it; the scratch directory stays.

    Args:
        order: What was asked for.
        scratch: The plant, not up yet.
        say: Takes lines of progress.

    Raises:
        Unavailable: The plant did not come up.
        ConfigError: There is nothing of a name that was to be killed.
    """
    writers = writers_for(order.rate)
    crew: Crew | None = None
    client: Plant | None = None
    striker: Striker | None = None
    try:
        page = scratch.up()
        say(f"the plant is up in {scratch.home.root}: {len(page.names())} processes")
        client = attach(home=scratch.home.root, timeout_s=ASK_S)
        crew = Crew(scratch.home.root, scratch.folder / "load", order.seed, writers)
        striker = Striker(scratch, page, crew, client, say)
        _strikes(order, striker, crew)
        say("the load ends")
        striker.settle(lambda: _tick(striker, crew))
        crew.end("writer")
        crew.end("commander")
        striker.close()
        client.close()
        proof, alarms, watchers = _prove(order, scratch, crew, say)
        striker.tick()
        crew.end("watcher")
        seen = set(striker.seen)
    except BaseException:
        if crew is not None:
            crew.kill_all()
        if striker is not None:
            striker.close()
        if client is not None:
            client.close()
        scratch.abandon()
        raise
    say("the plant is stopped, and looked for what is left of it")
    left = tuple(scratch.down(seen))
    return _verdict(order, proof, alarms, watchers, left, striker, crew, scratch.executions())


def _strikes(order: Order, striker: Striker, crew: Crew) -> None:
    names = [name for name in order.kill if striker.available(name)]
    if order.chosen and len(names) < len(order.kill):
        missing = next(name for name in order.kill if name not in names)
        raise ConfigError("the plant has nothing of this name", key="--kill", value=missing)
    began_s = time.monotonic()
    end_s = began_s + order.seconds
    down_s = 0.0
    fill_s = began_s + order.seconds * FILL_AT if order.seconds >= FILL_LEAST_S else end_s
    for strike in plan(order.seed, order.seconds, names):
        # A strike at a plant whose supervision is down proves nothing: it comes as much later, or not at all.
        while (now_s := time.monotonic()) < end_s:
            if now_s >= began_s + down_s + strike.at_s and not striker.supervision_is_down:
                break
            if now_s >= fill_s and not striker.supervision_is_down:
                fill_s = end_s
                striker.fill()
            _tick(striker, crew)
            time.sleep(_TICK_S)
            if striker.supervision_is_down:
                down_s += time.monotonic() - now_s
        if now_s >= end_s:
            return
        striker.strike(strike)
    while time.monotonic() < end_s:
        _tick(striker, crew)
        time.sleep(_TICK_S)


def _tick(striker: Striker, crew: Crew) -> None:
    crew.tick()
    striker.tick()


# --- the proof --------------------------------------------------------------------------------------------------------


def _prove(
    order: Order, scratch: Scratch, crew: Crew, say: Callable[[str], None]
) -> tuple[_Proof, AlarmFindings, dict[str, list[str]]]:
    ledgers = crew.ledgers()
    with attach(home=scratch.home.root, timeout_s=ASK_S) as plant:
        say("history is compared with what the writers wrote down")
        _wait_for_history(plant)
        proof = _Proof()
        for spec in (*crew.specs, FILLER):
            _prove_writer(order.seed, spec, ledgers[spec.name], plant, proof)
        say("alarms and watchers are compared")
        alarms = _prove_alarms(crew.specs, plant, proof)
        proof.evidence += (f"alarm missed: {one}" for one in alarms.missed[:EVIDENCE_LIMIT])
        proof.evidence += (f"alarm unfounded: {one}" for one in alarms.unfounded[:EVIDENCE_LIMIT])
        watchers = _prove_watchers(crew, plant)
        for name, lines in watchers.items():
            proof.evidence += (f"{name}: {line}" for line in lines[:EVIDENCE_LIMIT])
    return proof, alarms, watchers


def _wait_for_history(plant: Plant) -> None:
    """Wait until history has all that was acknowledged, of each shard."""
    one_a_shard = {tag.shard: tag for tag in plant.definitions("chaos.*")}
    deadline = time.monotonic() + CATCH_UP_S
    for shard, tag in one_a_shard.items():
        while plant.query("historian/0", GetHistory(tag.handle, 0, 1, limit=1), HistoryPage).behind:
            if time.monotonic() > deadline:
                raise Unavailable(f"history is behind shard {shard} after {CATCH_UP_S:g} s of quiet")
            time.sleep(0.1)


def _prove_writer(seed: int, spec: WriterSpec, ledger: Ledger, plant: Plant, proof: _Proof) -> None:
    for place, tag in enumerate(spec.tag_names):
        numbers, times, acked = ledger.of_tag(spec, place)
        values = values_of(spec, seed, numbers, times)
        history = valued(plant.history(tag, 0, time.time_ns() + 3_600_000_000_000)[tag])
        proof.add(compare_tag(tag, numbers, times, values, acked, history))
        if place < spec.alarms:
            alarm = spec.alarm_names[place]
            proof.unknown[alarm] = to_first_stored(ledger.live_only, history.times)
            proof.implied += outside(transitions_of(alarm, history), proof.unknown[alarm])


def _prove_alarms(specs: tuple[WriterSpec, ...], plant: Plant, proof: _Proof) -> AlarmFindings:
    deadline = time.monotonic() + CATCH_UP_S
    while True:
        recorded: list[Transition] = []
        for spec in specs:
            for alarm in spec.alarm_names:
                answer = plant.query("alarms/0", GetOccurrences(alarm, OCCURRENCES), OccurrenceList)
                recorded += outside(transitions_in(answer.occurrences), proof.unknown[alarm])
        found = compare_alarms(proof.implied, recorded)
        if not found.missed or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _prove_watchers(crew: Crew, plant: Plant) -> dict[str, list[str]]:
    """Give what each watcher has otherwise than the shards, after time enough to be in step."""
    deadline = time.monotonic() + EQUAL_S
    while True:
        tables = crew.tables(EQUAL_S)
        shard = {
            value.tag: (value.value if isinstance(value.value, float) else None, value.time_ns, value.quality)
            for value in plant.read_many(tag for spec in crew.specs for tag in spec.tag_names)
        }
        found: dict[str, list[str]] = {}
        for member in crew.of("watcher"):
            table = tables[member.name]
            watched = {row.name for row in plant.definitions(*member.task.watch)}
            mine = {tag: row for tag, row in shard.items() if tag in watched}
            lines = ["it does not answer"] if table is None else differing(mine, table)
            if lines:
                found[member.name] = lines
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _verdict(
    order: Order,
    proof: _Proof,
    alarms: AlarmFindings,
    watchers: dict[str, list[str]],
    leftovers: tuple[str, ...],
    striker: Striker,
    crew: Crew,
    executions: list[Execution],
) -> Verdict:
    commands = crew.commands()
    wrong = wrong_commands(commands, executions, striker.blows)
    leases = check_leases(executions, striker.blows)
    ledgers = crew.ledgers().values()
    failures: Counter[str] = Counter()
    for ledger in ledgers:
        failures.update(ledger.failures)
    kills = {name: striker.counts[name, How.KILL] for name in order.kill if striker.available(name)}
    return Verdict(
        seed=order.seed, seconds=order.seconds, acknowledged=sum(ledger.acknowledged for ledger in ledgers),
        in_history=proof.rows, lost=proof.lost, duplicated=proof.duplicated, strange=proof.strange,
        alarms_expected=alarms.expected, alarms_recorded=alarms.recorded, alarms_missed=len(alarms.missed),
        alarms_unfounded=len(alarms.unfounded), watchers_differing=len(watchers), leftovers=leftovers, kills=kills,
        blows={(name, str(how)): count for (name, how), count in striker.counts.items()},
        recovery_ms=tuple(striker.recovery_ms), failures=dict(failures),
        findings=(*striker.findings, *crew.findings),
        commands=dict(Counter(command.outcome or "untold" for command in commands)), wrong_commands=len(wrong),
        leases_due=leases.due, leases_fired=leases.fired, leases_missed=len(leases.missed),
        evidence=(*proof.evidence, *wrong[:EVIDENCE_LIMIT], *leases.missed[:EVIDENCE_LIMIT]),
    )  # fmt: skip
