"""A run of a program: what the original gets wrong, failures, and the bounds of what one event sets off."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tagwerk.actors.orders.logic.pfdl import Interpreter, read, root_uuid
from tagwerk.actors.orders.logic.pfdl import talk as t
from tagwerk.protocols.errors import LocalProtocolError, Refused

STRUCT = "Struct R\n    n: number\n    s: string\n    words: string[]\nEnd\n"
DIALECT = "# dialect: tagwerk 1\n"
ROOT = root_uuid("o")


class Run:
    """A run whose services give what `answers` says, first come first served."""

    def __init__(self, text: str, **answers: Any) -> None:
        self.interpreter = Interpreter(read(text))
        self.answers = answers
        self.commands: list[t.Command] = []
        self.state, commands = self.interpreter.start("o")
        self._take(commands)

    def _take(self, commands: tuple[t.Command, ...]) -> None:
        self.commands += commands

    def send(self, event: t.Event) -> tuple[t.Command, ...]:
        self.state, commands = self.interpreter.step(self.state, event)
        self._take(commands)
        return commands

    def started(self) -> list[t.ServiceStarted]:
        return [one for one in self.commands if isinstance(one, t.ServiceStarted)]

    def waiting(self) -> list[t.ServiceStarted]:
        return [one for one in self.started() if one.service_uuid in self.state.services]

    def end(self) -> Run:
        while waiting := self.waiting():
            one = waiting[0]
            answers = self.answers.get(one.name, [])
            given = answers.pop(0) if answers else {"n": 0, "s": "", "words": []}
            if isinstance(given, str):
                self.send(t.ServiceFailed(one.service_uuid, given))
            else:
                self.send(t.FireEvent(one.service_uuid, {output.name: given for output in one.outputs}))
        return self

    def names(self) -> str:
        return " ".join(one.name for one in self.started())

    def variables(self) -> dict[str, Any]:
        return self.state.tasks[ROOT].variables


def r(n: float, s: str = "", *words: str) -> dict[str, Any]:
    return {"n": n, "s": s, "words": list(words)}


def order(body: str, more: str = "", head: str = "") -> str:
    inner = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    return f"{head}{STRUCT}Task productionTask\n    Make\n        Out\n            r: R\n{inner}End\n{more}"


SUB = """Task sub
    In
        x: R
    Cut
        In
            x
        Out
            x: R
    Out
        x
End
"""
CALL = "sub\n    In\n        r\n    Out\n        q: R"


def test_nested_counting_loops() -> None:
    body = "Loop i To 2\n    Loop j To 3\n        A\n    B"
    assert Run(order(body)).end().names() == "Make A A A B A A A B"


def test_a_limit_of_zero_calls_nothing() -> None:
    body = "Loop i To 0\n    A\nParallel Loop i To r.n\n    sub\n        In\n            r\nB"
    more = SUB.replace("    Out\n        x\n", "")
    assert Run(order(body, more)).end().names() == "Make B"


def test_an_integer_and_a_path_limit_and_elements_of_arrays() -> None:
    body = "Loop i To r.n\n    A\n        In\n            r.words[i]\n            r.words[0]"
    run = Run(order(body), Make=[r(2, "", "x", "y")]).end()
    inputs = [[(one.name, one.type, one.value) for one in call.inputs] for call in run.started()[1:]]
    assert inputs == [
        [("r.words[0]", "string", "x"), ("r.words[0]", "string", "x")],
        [("r.words[1]", "string", "y"), ("r.words[0]", "string", "x")],
    ]


def test_strings_in_conditions() -> None:
    body = 'Condition\n    r.s == "x" And r.words[0] != "y"\nPassed\n    A\nFailed\n    B'
    assert Run(order(body), Make=[r(0, "x", "z")]).end().names() == "Make A"
    assert Run(order(body), Make=[r(0, "x", "y")]).end().names() == "Make B"


def test_variables_update() -> None:
    body = "Loop While r.n > 2\n    Cut\n        In\n            r\n        Out\n            r: R"
    run = Run(order(body), Make=[r(5)], Cut=[r(4), r(3), r(2)]).end()
    assert run.names() == "Make Cut Cut Cut"
    assert [call.inputs[0].value["n"] for call in run.started()[1:]] == [5, 4, 3]
    assert run.variables()["r"]["n"] == 2


def test_outputs_come_back_under_the_callers_name() -> None:
    run = Run(order(CALL, SUB), Make=[r(1)], Cut=[r(2)]).end()
    assert run.variables() == {"r": r(1), "q": r(2)}
    finished = [one for one in run.commands if isinstance(one, t.TaskFinished)]
    assert [[one.name for one in done.outputs] for done in finished] == [["q"], []]


def test_in_parallel_the_last_branch_wins_whoever_is_faster() -> None:
    body = "Parallel Loop i To 3\n    sub\n        In\n            r\n        Out\n            q: R"
    for turn in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        run = Run(order(body, SUB))
        run.send(t.FireEvent(run.waiting()[0].service_uuid, {"r": r(0)}))
        branches = run.waiting()
        for branch in turn:
            run.send(t.FireEvent(branches[branch].service_uuid, {"x": r(branch)}))
        assert run.state.state is t.OrderState.FINISHED
        assert run.variables()["q"]["n"] == 2


def test_the_right_side_of_and_does_not_matter_where_the_left_decides() -> None:
    body = 'Condition\n    r.n > 0 And 4 / r.n > 1 Or r.n == 0 Or r.words[9] == ""\nPassed\n    A'
    assert Run(order(body)).end().names() == "Make A"


def test_the_callbacks_in_their_order() -> None:
    run = Run(order(CALL, SUB)).end()
    told = [type(one).__name__ for one in run.commands]
    assert told == [
        "TaskStarted", "ServiceStarted", "ServiceFinished", "TaskStarted", "ServiceStarted", "ServiceFinished",
        "TaskFinished", "TaskFinished", "OrderEnded",
    ]  # fmt: skip
    first, second = (one for one in run.commands if isinstance(one, t.TaskStarted))
    assert (first.task_uuid, first.context_uuid) == (ROOT, ROOT)
    assert (second.context_uuid, [one.name for one in second.inputs]) == (ROOT, ["x"])


@pytest.mark.parametrize(
    ("test", "reason", "column"),
    [
        ("1 / r.n > 0", "a division by zero", 11),
        ('r.words[3] == ""', "`r.words[3]`: the array has 0 elements", 9),
        ("r.n + 1e308 * 10 > 0", "the result is too big for a number", 21),
    ],
)
def test_what_cannot_be_done_fails_the_order_at_its_place(test: str, reason: str, column: int) -> None:
    run = Run(order(f"Condition\n    {test}\nPassed\n    A")).end()
    assert run.commands[-1] == t.OrderEnded(t.OrderState.FAILED, reason, 11, column)
    assert run.state.reason == reason


def test_a_variable_that_no_branch_has_set() -> None:
    body = 'Condition\n    r.s == "never"\nPassed\n    Cut\n        Out\n            q: R\nA\n    In\n        q'
    assert Run(order(body)).end().state.reason == "`q` has no value yet"


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({}, "it gave no `r`"),
        ({"r": {"n": "1", "s": "", "words": []}}, 'is no R: n: this is no number (got "1"); expected a number'),
        ({"r": r(float("nan"))}, "n: no 64-bit float holds this number (got nan); expected a number"),
    ],
)  # fmt: skip
def test_a_service_that_gives_something_else_has_failed(outputs: dict[str, Any], reason: str) -> None:
    run = Run(order("A"))
    run.send(t.FireEvent(run.waiting()[0].service_uuid, outputs))
    assert run.state.state is t.OrderState.FAILED
    assert run.state.reason.startswith("Make: ")
    assert run.state.reason.endswith(reason)
    assert not run.state.services


def test_fields_that_nobody_declared_are_dropped_and_big_integers_are_floats() -> None:
    run = Run(order("A"))
    run.send(t.FireEvent(run.waiting()[0].service_uuid, {"r": {**r(2**60 + 1), "more": 1}}))
    assert run.variables() == {"r": r(float(2**60))}


def test_a_failed_service_fails_the_order_and_stops_the_others() -> None:
    run = Run(
        order(
            f"Parallel\n    {CALL.replace(chr(10), chr(10) + '    ')}\n    other", SUB + "Task other\n    Mill\nEnd\n"
        )
    )
    run.send(t.FireEvent(run.waiting()[0].service_uuid, {"r": r(0)}))
    cut, mill = run.waiting()
    told = run.send(t.ServiceFailed(cut.service_uuid, "broken"))
    ended = {one.service_uuid: one.running for one in told if isinstance(one, t.ServiceEnded)}
    assert ended == {cut.service_uuid: False, mill.service_uuid: True}
    assert run.state.reason == "Cut: broken"
    assert set(run.state.tasks) == {ROOT}
    assert run.send(t.FireEvent(mill.service_uuid)) == ()


def test_retries_and_on_error() -> None:
    body = "Cut\n    Timeout 5\n    Retry 2\n    Out\n        q: R\n    OnError\n        Repair\nB"
    run = Run(order(body, head=DIALECT), Cut=["a", "b", r(1)]).end()
    assert run.names() == "Make Cut Cut Cut B"
    assert [one.attempt for one in run.started()] == [1, 1, 2, 3, 1]
    assert {one.timeout_s for one in run.started() if one.name == "Cut"} == {5.0}
    assert len({one.service_uuid for one in run.started()}) == 5
    run = Run(order(body, head=DIALECT), Cut=["a", "b", "c"]).end()
    assert (run.names(), run.state.state) == ("Make Cut Cut Cut Repair B", t.OrderState.FINISHED)


def test_on_error_of_a_task_ends_all_below_it() -> None:
    more = "Task pair\n    Parallel\n        one\n        two\nEnd\nTask one\n    One\nEnd\nTask two\n    Two\nEnd\n"
    run = Run(order("pair\n    OnError\n        Clear\nB", more, DIALECT), One=["broken"]).end()
    assert run.names() == "Make One Two Clear B"
    failed = [one.name for one in run.commands if isinstance(one, t.TaskFailed)]
    assert failed == ["one", "two", "pair"]
    assert run.state.state is t.OrderState.FINISHED


def test_cancel_ends_all_and_nothing_moves_after_it() -> None:
    run = Run(order(CALL, SUB))
    waiting = run.waiting()[0]
    told = run.send(t.CancelOrder("enough"))
    assert [type(one).__name__ for one in told] == ["ServiceEnded", "TaskFailed", "OrderEnded"]
    assert run.state.state is t.OrderState.CANCELLED
    state = run.state
    assert run.interpreter.step(state, t.FireEvent(waiting.service_uuid, {"r": r(1)})) == (state, ())


def test_a_token_counts_once() -> None:
    run = Run(order("A"))
    token = t.FireEvent(run.waiting()[0].service_uuid, {"r": r(1)})
    assert run.send(token) != ()
    assert run.send(token) == ()


def test_provide_parameter() -> None:
    run = Run(order("A"), Make=[r(7)])
    with pytest.raises(Refused, match="no value of `r`"):
        run.interpreter.provide_parameter(run.state, "r", ROOT)
    run.end()
    assert run.interpreter.provide_parameter(run.state, "r", ROOT) == t.Parameter("r", "R", r(7))


def test_inputs_of_the_first_task() -> None:
    interpreter = Interpreter(
        read("Task productionTask\n    In\n        n: number\n    A\n        In\n            n\nEnd")
    )
    with pytest.raises(Refused, match="needs this input"):
        interpreter.start("o")
    with pytest.raises(Refused, match="this is no number"):
        interpreter.start("o", {"n": "1"})
    with pytest.raises(Refused, match="takes no such input"):
        interpreter.start("o", {"n": 1, "m": 2})
    state, _ = interpreter.start("o", {"n": 1})
    assert state.tasks[ROOT].variables == {"n": 1}


def test_a_state_belongs_to_its_text() -> None:
    state, _ = Interpreter(read(order("A"))).start("o")
    with pytest.raises(LocalProtocolError, match="another text"):
        Interpreter(read(order("B"))).step(state, t.CancelOrder(""))


def test_ten_thousand_rounds() -> None:
    interpreter = Interpreter(read("Task productionTask\n    Loop i To 100\n        Loop j To 100\n            A\nEnd"))
    state, _ = interpreter.start("o")
    for _ in range(10_000):
        assert len(msgspec.msgpack.encode(state)) < 1_000
        (service_uuid,) = state.services
        state, _ = interpreter.step(state, t.FireEvent(service_uuid))
    assert state.state is t.OrderState.FINISHED


IDLE = "Condition\n    1 > 2\nPassed\n    A"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("Loop While 1 < 2\n    " + IDLE.replace("\n", "\n    "), "more than 200000 steps without a service"),
        ("s0", "more than 50000 commands at once"),
        ("Parallel Loop i To 9007199254740992\n    idle", "more than 20000 tasks at the same time"),
        ("t0", "more than 20000 tasks at the same time"),
    ],
)
def test_no_event_sets_off_more_than_the_bounds_allow(body: str, reason: str) -> None:
    idle = "Task idle\n    " + IDLE.replace("\n", "\n    ") + "\nEnd\n"
    bomb = "".join(f"Task t{n}\n    Parallel\n        t{n + 1}\n        t{n + 1}\nEnd\n" for n in range(40))
    line = "".join(f"Task s{n}\n    s{n + 1}\n    s{n + 1}\nEnd\n" for n in range(40))
    run = Run(order(body, f"{idle}{bomb}{line}Task t40\n    A\nEnd\nTask s40\n    idle\nEnd\n")).end()
    assert run.state.state is t.OrderState.FAILED
    assert run.state.reason.startswith(reason)
    assert not run.state.services
