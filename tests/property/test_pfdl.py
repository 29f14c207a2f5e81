"""Random orders: the interpreter against a naive recursive one, whatever ends first and wherever a process dies."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tagwerk.actors.orders.logic.pfdl import Interpreter, findings_in, read, root_uuid
from tagwerk.actors.orders.logic.pfdl.talk import (
    CancelOrder,
    Event,
    FireEvent,
    OrderState,
    RunState,
    ServiceFailed,
    ServiceStarted,
)
from tagwerk.actors.orders.logic.pfdl.turn import uuid_of

MOST_MOVES = 60  # services, and rounds of loops
STRUCTS = """Struct Part
    width: number
End
Struct Thing
    n: number
    word: string
    good: boolean
    words: string[4]
    parts: Part[4]
End
"""
PRECEDENCE = {"Or": 1, "And": 2, "!": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4, "+": 5, "-": 5, "*": 6}

Tree: TypeAlias = Any  # an expression: a path or constant as text, or (operator, tree...)


@dataclass(frozen=True)
class Service:
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    number: int
    inputs: tuple[str, str]
    output: str


@dataclass(frozen=True)
class Parallel:
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class While:
    test: Tree
    body: tuple[Any, ...]


@dataclass(frozen=True)
class Count:
    counter: str
    limit: str
    body: tuple[Any, ...]


@dataclass(frozen=True)
class ParallelCount:
    counter: str
    limit: str
    task: Task


@dataclass(frozen=True)
class Condition:
    test: Tree
    passed: tuple[Any, ...]
    failed: tuple[Any, ...]


@cache
def numbers() -> st.SearchStrategy[Tree]:
    leaves = st.sampled_from(["a.n", "b.n", "a.parts[0].width", "0", "1", "2.5"])
    return st.recursive(leaves, lambda of: st.tuples(st.sampled_from("+-*"), of, of), max_leaves=4)


@cache
def conditions() -> st.SearchStrategy[Tree]:
    compared = st.one_of(
        st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers(), numbers()),
        st.tuples(st.sampled_from(["==", "!=", "<"]), st.just("a.word"), st.sampled_from(['"w1"', "b.words[2]"])),
        st.sampled_from(["a.good", "b.good"]),
    )
    return st.recursive(compared, joined, max_leaves=4)


def joined(of: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(st.tuples(st.sampled_from(["And", "Or"]), of, of), st.tuples(st.just("!"), of))


@cache
def statements(number: int, last: int, counters: tuple[str, ...], depth: int) -> st.SearchStrategy[tuple[Any, ...]]:
    names = st.sampled_from("ab")
    inputs = ["a", "b.n", "a.words", "b.parts[1]", *(f"a.words[{one}]" for one in counters)]
    kinds: list[st.SearchStrategy[Any]] = [
        st.builds(
            Service,
            st.sampled_from(["Cut", "Mill", "Paint"]),
            st.lists(st.sampled_from(inputs), max_size=2).map(tuple),
            st.lists(names, max_size=2, unique=True).map(tuple),
        )
    ]
    limits = st.sampled_from(["0", "1", "2", "3", "a.n", "b.n"])
    if number < last:
        task = st.builds(Task, st.integers(number + 1, last), st.tuples(names, names), names)
        kinds += [
            task,
            st.builds(Parallel, st.lists(task, min_size=1, max_size=3).map(tuple)),
            st.builds(ParallelCount, st.just(f"i{depth}"), limits, task),
        ]
    if depth < 3:
        counter = f"i{depth}"
        inner = statements(number, last, counters, depth + 1)
        kinds += [
            st.builds(While, conditions(), inner),
            st.builds(Count, st.just(counter), limits, statements(number, last, (*counters, counter), depth + 1)),
            st.builds(Condition, conditions(), inner, st.one_of(st.just(()), inner)),
        ]
    return st.lists(st.one_of(kinds), min_size=1, max_size=3).map(tuple)


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Task 0 is the first one; each calls later ones only."""
    last = draw(st.integers(0, 2))
    start = (Service("Make", (), ("a",)), Service("Make", (), ("b",)))
    bodies = [draw(statements(number, last, (), 0)) for number in range(last + 1)]
    return [start + bodies[0], *bodies[1:]]


def written(tree: Tree, inside: int = 0) -> str:
    """Write an expression with the fewest brackets."""
    if isinstance(tree, str):
        return tree
    own = PRECEDENCE[tree[0]]
    if tree[0] == "!":
        text = f"!{written(tree[1], own)}"
    else:
        text = f"{written(tree[1], own)} {tree[0]} {written(tree[2], own + 1)}"
    return f"({text})" if own < inside else text


def render(order: list[tuple[Any, ...]]) -> str:
    lines = [STRUCTS]
    for number, body in enumerate(order):
        lines.append(f"Task {'productionTask' if number == 0 else f'task{number}'}")
        if number:
            lines += ["    In", "        a: Thing", "        b: Thing"]
        for statement in body:
            lines += [f"    {line}" for line in rendered(statement)]
        lines += [*(["    Out", "        a"] if number else []), "End", ""]
    return "\n".join(lines)


def rendered(one: Any) -> list[str]:
    inside = [f"    {line}" for inner in getattr(one, "body", ()) for line in rendered(inner)]
    if isinstance(one, Service):
        ins = ["    In", *(f"        {path}" for path in one.inputs)] if one.inputs else []
        outs = ["    Out", *(f"        {name}: Thing" for name in one.outputs)] if one.outputs else []
        return [one.name, *ins, *outs]
    if isinstance(one, Task):
        ins = ["    In", *(f"        {name}" for name in one.inputs)]
        return [f"task{one.number}", *ins, "    Out", f"        {one.output}: Thing"]
    if isinstance(one, Parallel):
        return ["Parallel", *(f"    {line}" for task in one.tasks for line in rendered(task))]
    if isinstance(one, ParallelCount):
        return [f"Parallel Loop {one.counter} To {one.limit}", *(f"    {line}" for line in rendered(one.task))]
    if isinstance(one, While):
        return [f"Loop While {written(one.test)}", *inside]
    if isinstance(one, Count):
        return [f"Loop {one.counter} To {one.limit}", *inside]
    passed = [f"    {line}" for inner in one.passed for line in rendered(inner)]
    failed = [f"    {line}" for inner in one.failed for line in rendered(inner)]
    return ["Condition", f"    {written(one.test)}", "Passed", *passed, *(["Failed", *failed] if failed else [])]


def answer(service_uuid: str, variable: str) -> dict[str, Any]:
    """What a service gives: always the same for the same call."""
    drawn = random.Random(f"{service_uuid}/{variable}")
    words = [f"w{drawn.randrange(3)}" for _ in range(4)]
    parts = [{"width": drawn.randrange(4)} for _ in range(4)]
    return {"n": drawn.randrange(4), "word": words[0], "good": drawn.random() < 0.5, "words": words, "parts": parts}


class TooLongError(Exception):
    """The order takes too long for a test."""


@dataclass
class Naive:
    """Does one thing after the other, branches too, by plain recursion."""

    order: list[tuple[Any, ...]]
    calls: dict[str, tuple[str, list[Any]]] = field(default_factory=dict[str, tuple[str, list[Any]]])
    moves: int = 0

    def task(self, number: int, uuid: str, variables: dict[str, Any]) -> dict[str, Any]:
        scope = Scope(self, uuid, variables)
        scope.body(self.order[number])
        return scope.variables


@dataclass
class Scope:
    naive: Naive
    uuid: str
    variables: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict[str, int])
    made: int = 0

    def next_uuid(self) -> str:
        self.made += 1
        return uuid_of(f"{self.uuid}/{self.made - 1}")

    def value(self, tree: Tree) -> Any:
        if isinstance(tree, str):
            return self.leaf(tree)
        values = [self.value(part) for part in tree[1:]]
        if tree[0] == "!":
            return not values[0]
        name = {"And": "and", "Or": "or"}.get(tree[0], tree[0])
        return eval(f"left {name} right", {}, {"left": values[0], "right": values[1]})

    def leaf(self, text: str) -> Any:
        if text[0] == '"':
            return text.strip('"')
        if text[0].isdigit():
            return float(text)
        name, *steps = text.replace("[", ".[").split(".")
        value = self.variables[name]
        for step in steps:
            index = step.strip("[]")
            value = value[step] if step[0] != "[" else value[int(index) if index.isdigit() else self.counts[index]]
        return value

    def body(self, body: tuple[Any, ...]) -> None:
        for one in body:
            if isinstance(one, Service):
                self.service(one)
            elif isinstance(one, Task):
                self.tasks([one])
            elif isinstance(one, Parallel):
                self.tasks(list(one.tasks))
            elif isinstance(one, ParallelCount):
                self.tasks([one.task] * int(self.value(one.limit)))
            elif isinstance(one, While):
                while self.value(one.test):
                    self.check()
                    self.body(one.body)
            elif isinstance(one, Count):
                count = 0
                while count < self.value(one.limit):
                    self.counts[one.counter] = count
                    self.check()
                    self.body(one.body)
                    count += 1
            else:
                self.body(one.passed if self.value(one.test) else one.failed)

    def check(self) -> None:
        self.naive.moves += 1
        if self.naive.moves > MOST_MOVES:
            raise TooLongError

    def service(self, one: Service) -> None:
        uuid = self.next_uuid()
        self.naive.calls[uuid] = (one.name, [self.value(path) for path in one.inputs])
        self.variables.update({name: answer(uuid, name) for name in one.outputs})
        self.check()

    def tasks(self, tasks: list[Task]) -> None:
        inputs = [{"a": self.variables[one.inputs[0]], "b": self.variables[one.inputs[1]]} for one in tasks]
        for one, given_ in zip(tasks, inputs, strict=True):
            self.variables[one.output] = self.naive.task(one.number, self.next_uuid(), given_)["a"]


def through_a_restart(state: RunState, text: bool) -> RunState:
    if text:
        return msgspec.json.decode(msgspec.json.encode(state), type=RunState)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=RunState)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(orders(), st.randoms(use_true_random=False))
def test_it_does_what_a_naive_interpreter_does_whatever_ends_first(order: Any, drawn: random.Random) -> None:
    naive = Naive(order)
    try:
        expected = naive.task(0, root_uuid("o"), {})
    except TooLongError:
        assume(False)
    text = render(order)
    interpreter, restarted = Interpreter(read(text)), Interpreter(read(text))
    state, commands = interpreter.start("o")
    started: dict[str, tuple[str, list[Any]]] = {}
    events: list[FireEvent] = []
    while True:
        for one in commands:
            if isinstance(one, ServiceStarted):
                assert one.service_uuid not in started
                started[one.service_uuid] = (one.name, [given_.value for given_ in one.inputs])
                waiting = {output.name for output in one.outputs}
                assert waiting <= {"a", "b"}
        if state.state is not OrderState.RUNNING or len(started) > 3 * MOST_MOVES:
            break
        uuid = drawn.choice(sorted(state.services))
        outputs = {name: answer(uuid, name) for name in "ab"}
        events.append(FireEvent(uuid, outputs))
        before = msgspec.json.encode(state)
        after, commands = restarted.step(through_a_restart(state, drawn.random() < 0.5), events[-1])
        assert interpreter.step(state, events[-1]) == (after, commands), "the same event gives the same, always"
        assert msgspec.json.encode(state) == before, "the state it began from is as it was"
        state = after
    assert state.state is OrderState.FINISHED
    assert started == naive.calls
    assert {name: state.tasks[root_uuid("o")].variables[name] for name in expected} == expected
    replayed, _ = interpreter.start("o")
    for event in events:
        replayed, _ = interpreter.step(replayed, event)
    assert replayed == state


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(orders(), st.randoms(use_true_random=False))
def test_no_event_breaks_it(order: Any, drawn: random.Random) -> None:
    interpreter = Interpreter(read(render(order)))
    state, _ = interpreter.start("o")
    for _ in range(30):
        uuid = drawn.choice([*sorted(state.services), "nobody"])
        junk: Any = drawn.choice([{}, {"a": None}, {"a": {"n": True}}, {name: answer(uuid, name) for name in "ab"}])
        fired = FireEvent(uuid, junk)
        events: list[Event] = [fired, fired, fired, ServiceFailed(uuid, "r"), CancelOrder("c")]
        event = drawn.choice(events)
        known = isinstance(event, CancelOrder) or event.service_uuid in state.services
        after, commands = interpreter.step(state, event)
        if state.state is not OrderState.RUNNING or not known:
            assert after is state
            assert commands == ()
        assert bool(after.services) == (after.state is OrderState.RUNNING), "it waits for something, or it has ended"
        assert set(after.services.values()) <= set(after.tasks)
        state = through_a_restart(after, True)


PIECES = st.sampled_from(
    ["Struct ", "Task ", "End", "In", "Out", "Loop ", "While ", "To ", "Parallel ", "Condition", "Passed", "Failed",
     "Thing", "a", "a.n", ": ", "[", "]", "{", "}", '"', "#", "!", "- ", "1", "1e999", "\t", "\n", "    ", "\ud800",
     "# dialect: tagwerk 1\n", "# dialect: x", "Timeout 5", "OnError", "\r", "\x00", "é", "\\"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(string.printable, max_size=200), st.lists(PIECES, max_size=40).map("".join)))
def test_any_text_is_a_program_or_a_list_of_errors(text: str) -> None:
    findings = findings_in(text)
    assert findings, "nothing of this names a productionTask"
    lines = text.count("\n") + 1
    assert all(1 <= one.place.line <= lines + 1 and one.place.column >= 1 for one in findings)
    assert [one.place for one in findings] == sorted(one.place for one in findings)
    assert all(one.message and one.expected for one in findings)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(orders(), st.data())
def test_a_spoilt_line_is_found_or_does_not_matter(order: Any, data: st.DataObject) -> None:
    lines = render(order).split("\n")
    place = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["drop", "twice", "indent", "outdent", "piece"]))
    line = lines[place]
    spoilt = {"drop": [], "twice": [line, line], "indent": ["  " + line], "outdent": [line[2:]]}.get(how)
    lines[place : place + 1] = [line + data.draw(PIECES)] if spoilt is None else spoilt
    text = "\n".join(lines)
    if not findings_in(text):
        Interpreter(read(text)).start("o")
