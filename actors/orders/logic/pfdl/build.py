"""Blocks made into structs, tasks and statements; every block that cannot stand where it stands is a finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from tagwerk.actors.orders.logic.pfdl.blocks import Block
from tagwerk.actors.orders.logic.pfdl.lines import DIALECT_LINE
from tagwerk.actors.orders.logic.pfdl.model import (
    Call,
    Condition,
    Count,
    Definition,
    Expression,
    Finding,
    Input,
    Literal,
    Parallel,
    Path,
    Place,
    Statement,
    Struct,
    Task,
    While,
)

MOST_RETRIES: Final = 100
MOST_SECONDS: Final = 1e7  # of a timeout: a hundred days
_RANKS: Final = MappingProxyType({"Timeout": 0, "Retry": 0, "in": 1, "out": 2, "OnError": 3})
_STATEMENT: Final = "a service, a task, `Parallel`, `Loop` or `Condition`"


@dataclass(slots=True)
class Draft:
    """What could be made of a text.

    Args:
        is_headless: A line at the lowest level could not be read: what it would have named is not known.
    """

    structs: list[Struct] = field(default_factory=list[Struct])
    tasks: list[Task] = field(default_factory=list[Task])
    spans: dict[str, range] = field(default_factory=dict[str, range])  # of lines, by name
    is_headless: bool = False


def build(blocks: list[Block], dialect: int, findings: list[Finding]) -> Draft:
    """Make structs and tasks of the blocks of the lowest level."""
    builder = _Builder(dialect, findings)
    draft = Draft()
    head: Block | None = None
    spoilt = False  # the head could not be read: its `End` is none too many
    for block in blocks:
        if block.kind in ("struct", "task"):
            builder.unended(head)
            head = block
            draft.spans.setdefault(block.name, range(block.place.line, block.last_line + 1))
            if block.kind == "struct":
                draft.structs.append(builder.struct(block))
            else:
                draft.tasks.append(builder.task(block))
        elif block.kind == "end":
            if head is None and not spoilt:
                builder.refuse(block, "this `End` ends nothing", "it below a Struct or Task")
            builder.nothing_below(block)
            head, spoilt = None, False
        elif block.kind == "broken":
            draft.is_headless = True
            builder.unended(head)
            head, spoilt = None, True
        else:
            builder.refuse(block, "this cannot stand outside of a task", "`Struct Name`, `Task name` or `End`")
    builder.unended(head)
    return draft


class _Builder:
    def __init__(self, dialect: int, findings: list[Finding]) -> None:
        self._dialect = dialect
        self._findings = findings
        self._key = ""

    def note(self, place: Place, message: str, expected: str, value: str = "") -> None:
        self._findings.append(Finding(place, message, expected, value, self._key))

    def refuse(self, block: Block, message: str, expected: str) -> None:
        if block.kind != "broken":
            self.note(block.place, message, expected, block.text)

    def unended(self, head: Block | None) -> None:
        if head is not None:
            self.note(head.place, "this is never ended", "`End` below it, not indented", head.text)

    def nothing_below(self, block: Block) -> None:
        if block.below and block.kind != "broken":
            first = block.below[0]
            self.note(first.place, f"nothing can stand indented below `{block.text}`", "less indentation", first.text)

    def something_below(self, block: Block, what: str) -> None:
        if not block.below:
            self.note(block.place, f"nothing stands below `{block.text}`", f"{what} on the next line, indented")

    def struct(self, head: Block) -> Struct:
        self._key = f"Struct {head.name}"
        self.something_below(head, "`field: type`")
        return Struct(head.parsed.name_place, head.name, self._definitions(head.below))

    def _definitions(self, blocks: Iterable[Block]) -> tuple[Definition, ...]:
        found: list[Definition] = []
        for block in blocks:
            if block.kind == "definition":
                self.nothing_below(block)
                found.append(Definition(block.parsed.name_place, block.name, block.parsed.value))
            else:
                self.refuse(block, "this cannot stand here", "`name: type`")
        return tuple(found)

    def task(self, head: Block) -> Task:
        self._key = f"Task {head.name}"
        body = list(head.below)
        inputs: tuple[Definition, ...] = ()
        outputs: tuple[tuple[str, Place], ...] = ()
        if body and body[0].kind == "in":
            self.something_below(body[0], "`name: type`")
            inputs = self._definitions(body.pop(0).below)
        if body and body[-1].kind == "out":
            self.something_below(body[-1], "the name of a variable")
            outputs = tuple(self._names(body.pop().below))
        if not body:
            self.note(head.place, "the task does nothing", f"{_STATEMENT} in it")
        return Task(head.parsed.name_place, head.name, inputs, self._statements(body), outputs)

    def _names(self, blocks: Iterable[Block]) -> Iterable[tuple[str, Place]]:
        for block in blocks:
            path = _path_of(block)
            self.nothing_below(block)
            if path is not None and not path.steps:
                yield path.name, path.place
            else:
                self.refuse(block, "this cannot be an output of a task", "the name of a variable")

    def _body(self, block: Block) -> tuple[Statement, ...]:
        if block.kind != "broken":
            self.something_below(block, "a statement")
        return self._statements(block.below)

    def _statements(self, blocks: list[Block]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        place = 0
        while place < len(blocks):
            block = blocks[place]
            place += 1
            if block.kind == "condition":
                following = [other.kind for other in blocks[place : place + 2]]
                count = (2 if following[1:] == ["failed"] else 1) if following[:1] == ["passed"] else 0
                found.append(self._condition(block, blocks[place : place + count]))
                place += count
            elif (statement := self._statement(block)) is not None:
                found.append(statement)
        return tuple(found)

    def _condition(self, block: Block, parts: list[Block]) -> Condition:
        test: Expression = ()
        if len(block.below) == 1 and block.below[0].kind == "expression_line":
            test = block.below[0].parsed.value
            self.nothing_below(block.below[0])
        elif len(block.below) != 1 or block.below[0].kind != "broken":
            wrong = block.below[-1] if block.below else block
            self.note(wrong.place, "a condition is one expression", "it on the line below `Condition`", wrong.text)
        if not parts:
            self.note(block.place, "the condition has no `Passed`", "`Passed` below it, indented like it")
        bodies = [self._body(part) for part in parts]
        return Condition(block.place, test, bodies[0] if bodies else (), bodies[1] if len(bodies) > 1 else ())

    def _statement(self, block: Block) -> Statement | None:
        parsed = block.parsed
        call = self._call(block)
        if call is not None:
            return call
        if block.kind == "while":
            return While(block.place, parsed.value, self._body(block))
        if block.kind == "count":
            return Count(parsed.name_place, block.name, parsed.value, self._body(block))
        if block.kind == "parallel_count":
            calls = self._calls(block)
            if len(calls) > 1:
                self.note(calls[1].place, "a `Parallel Loop` calls one task", "that call alone", calls[1].name)
            return Count(parsed.name_place, block.name, parsed.value, calls[:1], parallel=True)
        if block.kind == "parallel":
            return Parallel(block.place, self._calls(block))
        self._misplaced(block)
        return None

    def _misplaced(self, block: Block) -> None:
        where = {
            "in": "as the first thing in a task or call",
            "out": "as the last thing in a task or call",
            "passed": "right below a `Condition`",
            "failed": "right below a `Passed`",
            "end": "not indented, below its Struct or Task",
        }.get(block.kind)
        if where is not None:
            self.refuse(block, f"`{block.text}` cannot stand here", f"it {where}")
        else:
            self.refuse(block, "this is no statement", _STATEMENT)

    def _calls(self, block: Block) -> tuple[Call, ...]:
        self.something_below(block, "the call of a task")
        calls: list[Call] = []
        for inner in block.below:
            call = self._call(inner)
            if call is None or call.is_service:
                self.refuse(inner, f"only tasks can be called below `{block.text}`", "the name of a task")
            elif call.on_error is not None:
                self.refuse(inner, f"`OnError` cannot stand below `{block.text}`", "it inside of the task")
            else:
                calls.append(call)
        return tuple(calls)

    def _call(self, block: Block) -> Call | None:
        """Give the call that a block is; None if it is something else."""
        if block.kind == "upper":
            name, place = block.name, block.parsed.name_place
        elif (path := _path_of(block)) is not None and not path.steps:
            name, place = path.name, path.place
        else:
            return None
        call = Call(place, name)
        for part in self._parts(block):
            if part.kind == "in":
                self.something_below(part, "what goes in")
                call = replace(call, inputs=self._inputs(part.below))
            elif part.kind == "out":
                self.something_below(part, "`name: type`")
                call = replace(call, outputs=self._definitions(part.below))
            elif part.name == "OnError":
                call = replace(call, on_error=self._body(part))
            else:
                call = self._set(call, part)
        return call

    def _parts(self, block: Block) -> Iterable[Block]:
        """Give the parts of a call that stand where they may."""
        last, seen = 0, set[str]()
        for part in block.below:
            word = part.name if part.kind in ("upper", "setting") else part.kind
            rank = _RANKS.get(word)
            if rank is None or (part.kind == "setting") != (word in ("Timeout", "Retry")):
                self.refuse(part, f"this cannot stand below the call of `{block.text}`", "`In`, then `Out`")
            elif rank in (0, 3) and not self._dialect:
                self.refuse(part, f"`{word}` is no plain PFDL", f"the line `{DIALECT_LINE}` at the top")
            elif rank < last or word in seen:
                self.refuse(part, f"`{part.text}` cannot stand here", "Timeout and Retry, In, Out, OnError, each once")
            else:
                last = rank
                seen.add(word)
                yield part

    def _set(self, call: Call, setting: Block) -> Call:
        self.nothing_below(setting)
        value: float = setting.parsed.value
        if not call.is_service:
            self.refuse(setting, f"`{setting.name}` is for services, `{call.name}` is a task", "it inside of the task")
        elif setting.name == "Timeout" and 0 < value <= MOST_SECONDS:
            return replace(call, timeout_s=float(value))
        elif setting.name == "Retry" and 0 <= value <= MOST_RETRIES and value == int(value):
            return replace(call, retries=int(value))
        elif setting.name == "Timeout":
            self.refuse(setting, "the time cannot be waited for", f"seconds, more than 0, at most {MOST_SECONDS:g}")
        else:
            self.refuse(setting, "so many retries are none", f"a whole number from 0 to {MOST_RETRIES}")
        return call

    def _inputs(self, blocks: list[Block]) -> tuple[Input, ...]:
        found: list[Input] = []
        place = 0
        while place < len(blocks):
            block = blocks[place]
            place += 1
            path = _path_of(block)
            if path is not None:
                self.nothing_below(block)
                found.append(path)
            elif block.kind == "literal":
                self.nothing_below(block)
                found.append(Literal(block.parsed.name_place, block.name, block.parsed.value))
            elif block.kind == "upper":
                # The braces stand on the next line, indented or not.
                rest = block.below or blocks[place : place + 1]
                place += not block.below
                if len(rest) == 1 and rest[0].kind == "bare_literal":
                    self.nothing_below(rest[0])
                    found.append(Literal(block.parsed.name_place, block.name, rest[0].parsed.value))
                elif not rest or rest[0].kind != "broken":
                    place -= not block.below
                    self.refuse(block, f"the values of `{block.name}` are missing", "`{...}` after it")
            else:
                self.refuse(block, "this cannot go in", "a variable, a path like `order.parts[i]`, or `Struct {...}`")
        return tuple(found)


def _path_of(block: Block) -> Path | None:
    """Give the path that is all of a line, if one is."""
    value = block.parsed.value
    if block.kind == "expression_line" and len(value) == 1 and isinstance(value[0], Path):
        return value[0]
    return None
