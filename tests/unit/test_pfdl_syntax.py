"""What a text of PFDL says: what is accepted, and that each error stands at its place."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from tagwerk.actors.orders.logic.pfdl import findings_in, read
from tagwerk.actors.orders.logic.pfdl.model import Call, Condition, Count, Literal, Type
from tagwerk.actors.orders.logic.pfdl.values import plain

STRUCTS = """
Struct Part
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


def program(body: str, more: str = "", head: str = "") -> str:
    inner = "".join(f"    {line}\n" for line in dedent(body).strip("\n").split("\n"))
    return (
        f"{head}{STRUCTS}Task productionTask\n    Make\n        Out\n            o: Order\n{inner}End\n{dedent(more)}"
    )


def errors(text: str) -> list[str]:
    return [f"{one.place.line}:{one.place.column} {one.message}" for one in findings_in(text)]


def wrong(body: str, more: str = "", head: str = "") -> list[str]:
    """Errors, with lines counted from the first line of `body`."""
    first = program("A", head=head).split("\n").index("    A") + 1
    found = [
        (one.place.line - first + 1, one.place.column - 4, one.message)
        for one in findings_in(program(body, more, head))
    ]
    return [f"{line}:{column} {message}" for line, column, message in found]


def test_a_literal_may_stand_on_the_line_or_below_it_indented_or_not() -> None:
    text = program(
        """
        Paint
            In
                Part {"width": -1.5e2, "name": "a # b"}   # a comment
                Part
                {
                    # a comment
                    "width": 2, "name": "é\\n"
                }
                Part

                    {
            "width": 3,
            "name": ""
                    }
                o.parts[0]
            Out
                o: Order
        """
    )
    call = read(text).tasks["productionTask"].body[1]
    assert isinstance(call, Call)
    values = [plain(one.value) for one in call.inputs if isinstance(one, Literal)]
    assert values == [
        {"width": -150.0, "name": "a # b"}, {"width": 2, "name": "é\n"}, {"width": 3, "name": ""}
    ]  # fmt: skip
    assert str(call.inputs[3]) == "o.parts[0]"
    assert call.outputs[0].type == Type("Order")


def test_spaces_comments_and_line_ends_do_not_matter() -> None:
    text = program("Loop i To o.count   # once\n    Cut\n        In \n            o.parts[ i ]\n\n   # odd\n    Mill")
    assert errors(text) == []
    assert errors(text.replace("\n", "\r\n")) == []
    assert errors("\ufeff" + text.replace(": ", " :")) == []


@pytest.mark.parametrize(
    "test",
    ["o.good", "!o.good", "o.count < 3 And o.good", "o.words[0] == \"x\"", "o.parts[2].name != \"y\" Or !(o.good)",
     "o.count * 2 + 1 >= 4 / (2 - o.rgb[1])", "o.good == true", "1 < 2", '"a" < o.words[1]'],
)  # fmt: skip
def test_expressions_of_plain_pfdl(test: str) -> None:
    assert errors(program(f"Condition\n    {test}\nPassed\n    A\nFailed\n    B\nLoop While {test}\n    A")) == []


def test_what_the_original_gets_wrong_is_accepted() -> None:
    body = """
    Loop i To 2
        Loop j To o.count
            A
                In
                    o.words[i]
                    o.parts[j].name
    Parallel Loop k To 0
        sub
    Condition
        o.words[0] == "x"
    Passed
        A
    """
    assert errors(program(body, "Task sub\n    A\nEnd\n")) == []


def test_precedence() -> None:
    text = program("Condition\n    !o.count + 2 * 3 < 4 And o.good Or o.good\nPassed\n    A")
    condition = read(text).tasks["productionTask"].body[1]
    assert isinstance(condition, Condition)
    shown = [getattr(item, "symbol", None) or str(getattr(item, "value", item)) for item in condition.test]
    assert shown == ["o.count", "2", "3", "*", "+", "4", "<", "!", "o.good", "And", "o.good", "Or"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Loop i", ["1:7 this cannot stand here"]),
        ("Loop i To o.count", ["1:1 nothing stands below `Loop i To o.count`"]),
        ("Loop While o.count\n    A", ["1:12 this is of type number"]),
        ("A b", ["1:3 this cannot stand here"]),
        ("A\n    In\n        o.count +", ["3:18 this cannot stand here"]),
        ("A\n    Out\n        x\n", ["3:9 this cannot stand here"]),
        ("A\n    Out\n        x: Order\n    In\n        o", ["4:5 `In` cannot stand here"]),
        ("A\n    Foo", ["2:5 this cannot stand below the call of `A`"]),
        ("Passed\n    A", ["1:1 `Passed` cannot stand here"]),
        ("Condition\n    o.good\nA", ["1:1 the condition has no `Passed`"]),
        ("Condition\nPassed\n    A", ["1:1 a condition is one expression"]),
        ("Parallel\n    A", ["2:5 only tasks can be called below `Parallel`"]),
        (
            "A\n   B\n  C",
            ["2:4 this cannot stand below the call of `A`", "3:3 the indentation is that of no block above"],
        ),
        ("A\n    In\n        Part {\"width\": 1,}", ["3:26 this cannot stand here"]),
        ("A\n    In\n        Part {\"width\": 1", ["3:14 this `{` is never closed"]),
        (
            "A\n    In\n        Part {\"name\": \"a\\q\", \"width\": 1}",
            ["3:23 a `\\` in this text is not followed by what JSON allows"],
        ),
        ("A\n    In\n        Part {\"width\": 1e999, \"name\": \"\"}", ["3:24 the number is too big"]),
        ("A\n    In\n        Part {\"width\": 1, \"width\": 2, \"name\": \"\"}", ["3:27 this field is given twice"]),
        ("A\n    In\n        Part", ["3:9 the values of `Part` are missing"]),
        ("OnDone", ["1:1 this word is reserved"]),
        ("x = 3", ["1:3 this cannot stand here"]),
    ],
)  # fmt: skip
def test_each_error_stands_at_its_place(body: str, expected: list[str]) -> None:
    assert wrong(body) == expected


def test_a_tab_is_no_indentation() -> None:
    text = program("A").replace("    A", "\tA")
    assert errors(text)[0] == "17:1 the line is indented with a tab, or another blank that is no space"


def test_several_errors_are_told_at_once_and_none_echoes() -> None:
    struct = "Struct Part\n    width numbr\n    name: text\nEnd\n"
    text = f"{struct}Task productionTask\n    Loop x\n        Cut\n    Cut {{\n    End\nTask cut\n    ?\nEnd"
    assert errors(text) == [
        "2:11 this cannot stand here",
        "3:11 this cannot stand here",
        "5:1 this is never ended",
        "6:11 this cannot stand here",
        "8:9 this `{` is never closed",
        "11:5 this cannot stand here",
    ]


def test_every_error_says_what_would_be_right() -> None:
    found = findings_in("Task Cut\nEnd\nfoo\nStruct x\nEnd")
    assert [one.place for one in found] == [(1, 6), (3, 1), (4, 8)]
    assert "small letter" in found[0].expected
    assert "Struct Name" in found[1].expected
    assert "capital letter" in found[2].expected


@pytest.mark.parametrize("word", ["Timeout 5", "Retry 2", "OnError"])
def test_extensions_stand_behind_the_dialect_line(word: str) -> None:
    body = f"A\n    {word}" + ("\n        B" if word == "OnError" else "")
    assert wrong(body) == [f"2:5 `{word.split()[0]}` is no plain PFDL"]
    assert wrong(body, head="# a comment\n\n# dialect: tagwerk 1\n") == []


def test_names_of_extensions_are_services_in_plain_pfdl() -> None:
    assert errors(program("Timeout\nRetry\nOnError")) == []


@pytest.mark.parametrize(
    "body", ["Loop i To n\n    A", "Condition\n    o.rgb[0] > -1\nPassed\n    A", "A\n    In\n        w[1]"]
)
def test_wider_expressions_too(body: str) -> None:
    body = f"A\n    Out\n        n: number\n        w: string[]\n{body}"
    assert len(wrong(body)) == 1
    assert wrong(body, head="# dialect: tagwerk 1\n") == []


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("# dialect: tagwerk 2\n", "1:1 the dialect is not known"),
        ("A\n# dialect: tagwerk 1\n", "2:1 the dialect is named too late"),
    ],
)
def test_a_dialect_line_that_does_nothing_is_an_error(head: str, message: str) -> None:
    assert message in errors(program("A", head=head))


@pytest.mark.parametrize(
    ("setting", "right"),
    [("Timeout 0", False), ("Timeout 0.5", True), ("Timeout 1e9", False), ("Retry 1.5", False), ("Retry 100", True)],
)
def test_bounds_of_settings(setting: str, right: bool) -> None:
    assert (wrong(f"A\n    {setting}", head="# dialect: tagwerk 1\n") == []) is right
    assert wrong(f"sub\n    {setting}", "Task sub\n    A\nEnd", "# dialect: tagwerk 1\n") != []


def test_a_parallel_loop_calls_one_task() -> None:
    more = "Task sub\n    A\nEnd\n"
    assert wrong("Parallel Loop i To 2\n    sub\n    sub", more) == ["3:5 a `Parallel Loop` calls one task"]
    loop: Any = read(program("Parallel Loop i To 2\n    sub", more)).tasks["productionTask"].body[1]
    assert isinstance(loop, Count)
    assert loop.parallel
