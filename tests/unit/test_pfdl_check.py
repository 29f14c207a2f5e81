"""What is wrong with a program although each of its lines can be read; and what is too much for any run."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tagwerk.actors.orders.logic.pfdl import findings_in, limits

STRUCTS = """Struct Part
    width: number
    name: string
End
Struct Order
    count: number
    good: boolean
    words: string[]
    parts: Part[]
    rgb: number[3]
End
"""
SUB = """Task sub
    In
        part: Part
    Mill
        In
            part
        Out
            part: Part
            extra: Order
    Out
        part
End
"""
FIRST = len(STRUCTS.split("\n")) + 4  # the line of the first statement after Make


def messages(body: str, more: str = SUB) -> list[str]:
    inner = "".join(f"    {line}\n" for line in dedent(body).strip("\n").split("\n"))
    text = f"{STRUCTS}Task productionTask\n    Make\n        Out\n            o: Order\n{inner}End\n{more}"
    return [f"{one.place.line - FIRST + 1}: {one.message}; {one.expected}" for one in findings_in(text)]


def inputs(*lines: str) -> str:
    return "Cut\n    In\n" + "\n".join(f"        {line}" for line in lines)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (inputs("oo"), "3: there is no variable `oo`; `o`?"),
        (inputs("o.cont"), "3: Order has no field `cont`; `count`?"),
        (inputs("o.count.x"), "3: `o.count` is of type number and has no fields; `o.count` alone"),
        (inputs("o.parts.name"), "3: `o.parts` is of type Part[] and has no fields; `o.parts[i]`, one of its elements"),
        (inputs("o.count[0]"), "3: `o.count` is of type number, no array; no [ ] after it"),
        (inputs("o.rgb[3]"), "3: `o.rgb` has 3 elements; 0 to 2"),
        (inputs("o.parts[i]"), "3: no loop counts `i`; a whole number, or the counter of a loop around this"),
        (inputs("Prt {}"), "3: there is no struct Prt; `Part`?"),
        (inputs('Part {"width": 1}'), '3: the field `name` of Part is missing; "name": string'),
        (inputs('Part {"width": 1, "name": "", "x": 1}'), "3: Part has no field `x`; `name`, `width`"),
        (inputs('Part {"width": "1", "name": ""}'), "3: this is no number; a number"),
        (inputs('Part {"width": true, "name": ""}'), "3: this is no number; a number"),
        (inputs('Part {"width": {}, "name": []}'), "3: this is no number; a number"),
        ("Cut\n    Out\n        x: Prt", "3: there is no type Prt; `Part`?"),
        ("Cut\n    Out\n        o: Part", "3: `o` is of type Order already; another name, or the same type"),
        ("Cut\n    Out\n        x: Part\n        x: Part", "4: `x` comes out twice; another name"),
        ("sup", "1: there is no task sup; `sub`?"),
        ("sub", "1: sub takes 1, not nothing; `part: Part`"),
        (
            "sub\n    In\n        o\n    Out\n        p: Part",
            "3: Order is not the type of what goes into sub as `part`; Part",
        ),
        (
            "sub\n    In\n        o.parts[0]\n    Out\n        p: Order",
            "5: Order is not the type of what comes out of sub as `part`; Part",
        ),
        ("Loop i To o.good\n    Cut", "1: the limit is of type boolean; a number"),
        ("Loop i To 2\n    Loop i To 2\n        Cut", "2: `i` counts the loop around this one; another name"),
        ("Loop o To 2\n    Cut", "1: `o` is a variable already; another name"),
        (
            "Loop While o.rgb[0]\n    Cut",
            "1: this is of type number; something that is true or false, like a comparison",
        ),
        (
            "Loop While o.count == o.good\n    Cut",
            "1: `==` cannot take number and boolean; numbers or strings or booleans, the same on both sides",
        ),
        (
            "Loop While o.parts[0] == o.parts[1]\n    Cut",
            "1: `==` cannot take Part and Part; numbers or strings or booleans, the same on both sides",
        ),
        ("Loop While !o.count\n    Cut", "1: `!` cannot take number; booleans, the same on both sides"),
        (inputs("p") + "\nMake\n    Out\n        p: Part", "3: `p` has no value yet; it after the call that gives it"),
        (
            "Parallel\n    sub\n        In\n            o.parts[0]\n        Out\n            p: Part\n"
            "    sub\n        In\n            p\n        Out\n            q: Part",
            "9: `p` has no value yet; it after the call that gives it",
        ),
    ],
)  # fmt: skip
def test_each_error_names_its_line_and_what_would_be_right(body: str, expected: str) -> None:
    assert expected in messages(body)


def test_a_variable_that_one_branch_sets_may_be_used() -> None:
    body = "Condition\n    o.good\nPassed\n    Cut\n        Out\n            p: Part\nMill\n    In\n        p"
    assert messages(body) == []


def test_what_a_loop_sets_is_there_the_next_time() -> None:
    use = "Condition\n        o.good\n    Passed\n        A\n            In\n                p"
    body = f"Loop i To 3\n    {use}\n    B\n        Out\n            p: Part"
    assert messages(body) == []


def test_errors_of_structs() -> None:
    text = dedent("""
        Struct A
            b: B
            x: number
            x: string
        End
        Struct B
            a: A[]
        End
        Struct A
            c: Cc
        End
        Task productionTask
            Do
            productionTask
        End
        Task productionTask
            Do
        End
        """)
    assert [f"{one.place}: {one.message}" for one in findings_in(text)] == [
        "2:8: a struct cannot hold itself",
        "5:5: the field `x` is defined twice",
        "10:8: struct A is defined twice",
        "13:6: a task cannot call itself",
        "17:6: task productionTask is defined twice",
    ]


def test_without_a_first_task_nothing_would_begin() -> None:
    assert [str(one) for one in findings_in("Task cut\n    Cut\nEnd")] == [
        "1:1: there is no task productionTask: nothing would begin; expected `Task productionTask`"
    ]


def test_all_errors_are_told_together() -> None:
    found = messages("cut\nLoop i To o.x\n    Cut\n        In\n            y\nCut\n    Out\n        o: Part")
    assert [line.split(";")[0] for line in found] == [
        "1: there is no task cut",
        "2: Order has no field `x`",
        "5: there is no variable `y`",
        "8: `o` is of type Order already",
    ]


HOSTILE = {
    "blocks": "Task productionTask\n" + "".join("  " * n + "Loop While 1 < 2\n" for n in range(1, 500)),
    "brackets": "Task productionTask\n    A\n        In\n            X {" + '"a":[' * 50_000,
    "braces closed": "Task productionTask\n    A\n        In\n            X " + '{"a":' * 50_000 + "1" + "}" * 50_000,
    "parentheses": "Task productionTask\n    Condition\n        " + "(" * 900 + "1",
    "digits": 'Task productionTask\n    A\n        In\n            X {"a": ' + "9" * 9_000 + "}\nEnd\n",
    "long line": "Task productionTask\n    " + "a." * 9_000 + "a\nEnd\n",
    "long file": "\n" * (limits.FILE_LINES + 1),
    "big file": "#" * (limits.FILE_CHARACTERS + 1),
    "doubling structs": "".join(f"Struct S{n}\n    a: S{n + 1}\n    b: S{n + 1}\nEnd\n" for n in range(60))
    + "Struct S60\n    a: number\nEnd\nTask productionTask\n    A\nEnd\n",
    "long chain": "".join(f"Struct S{n}\n    a: S{n + 1}\nEnd\n" for n in range(1_500))
    + "Struct S1500\n    a: number\nEnd\nTask productionTask\n    A\nEnd\n",
    "huge array": "Task productionTask\n    A\n        Out\n            x: number[999999999]\nEnd\n",
    "circles": "".join(f"Task a{n}\n    b{n}\nEnd\nTask b{n}\n    a{n}\nEnd\n" for n in range(400)),
    "nothing": "\x00\ud800\u2028" * 1_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_with_a_place(name: str) -> None:
    found = findings_in(HOSTILE[name])
    assert 0 < len(found) <= limits.TOLD_FINDINGS + 1
    assert all(one.place.line >= 1 and one.place.column >= 1 and len(str(one)) < 1_000 for one in found)


def test_many_errors_are_cut_short_and_counted() -> None:
    found = findings_in("Task productionTask\n" + "    ?\n" * 500 + "End\n")
    assert len(found) == limits.TOLD_FINDINGS + 1
    assert found[-1].message == "400 more errors from here on"


def test_a_deep_chain_of_tasks_is_no_error() -> None:
    chain = "".join(f"Task t{n}\n    t{n + 1}\nEnd\n" for n in range(1_500))
    assert findings_in(f"Task productionTask\n    t0\nEnd\n{chain}Task t1500\n    A\nEnd\n") == ()
